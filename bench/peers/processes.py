"""Runs programs as child processes, each pinned to a core. No process outlives the benchmark."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from . import BenchError

READY_WITHIN = 60
POLL = 0.01
STOP_GRACE = 15
LAST_LINES = 15
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes orphaned descendants of servers children of this process, so that it can end them."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def output(core, *command):
    """Runs a program to its end and returns its output."""
    result = subprocess.run(on_core(core, command), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        name = Path(command[0]).name
        raise BenchError(f"{name} failed ({result.returncode}): {last_lines(result.stderr)}")
    return result.stdout


def figures(core, *command):
    """Runs a program to its end and parses the JSON that it prints."""
    return json.loads(output(core, *command))


@contextlib.contextmanager
def serving(name, core, command, ready, folder):
    """Starts a server, waits until `ready()` returns its address, and stops the server at the end. Yields the address
    and the process id."""
    log = folder / "log"
    with open(log, "wb") as stream:
        # In a new session, so that Ctrl-C reaches only this process, which stops the server.
        process = subprocess.Popen(
            on_core(core, command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            yield wait(name, process, ready, log), process.pid
        finally:
            stop(process)


def wait(name, process, ready, log):
    """Waits until `ready()` returns an address, and returns it."""
    deadline = time.monotonic() + READY_WITHIN
    while True:
        if address := ready():
            return address
        if process.poll() is not None:
            raise BenchError(f"{name} exited before it was ready ({process.returncode}): {last_lines(log.read_text())}")
        if time.monotonic() > deadline:
            raise BenchError(f"{name} was not ready within {READY_WITHIN} s: {last_lines(log.read_text())}")
        time.sleep(POLL)


def stop(process):
    """Ends a server and all its descendants."""
    try:
        process.terminate()
        process.wait(timeout=STOP_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        # The server's children are now children of this process, and so are their children once they are dead.
        while left := children():
            for pid in left:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)


def children():
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def on_core(core, command):
    return ["taskset", "--cpu-list", str(core), *map(str, command)]


def last_lines(text):
    return "\n".join(["", *text.strip().splitlines()[-LAST_LINES:]])
