"""Programs that a check starts, and what it expects of them."""

import json
import os
import pathlib
import socket
import subprocess
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("PROGRAMS", REPOSITORY / "target/release")).resolve()
PATIENCE = 60
# For a process that ends by itself.
LONGEST = 600
# Variables that would lead requests elsewhere.
FOREIGN = ("AWS_", "AZURE_", "GOOGLE_", "SERVICE_ACCOUNT")


class Failure(Exception):
    """What did not happen."""


class Scene:
    """A folder, and the processes of a check. All have the environment of the check and `environment`."""

    def __init__(self, folder):
        for name in list(os.environ):
            if name.startswith(FOREIGN) or name.lower().endswith("_proxy"):
                del os.environ[name]
        os.environ.setdefault("ORT_DYLIB_PATH", str(REPOSITORY / ".deps/onnxruntime/lib/libonnxruntime.so"))
        self.folder, self.started, self.environment = folder, [], {}

    def start(self, name, *command):
        """Starts a process, which ends with the check."""
        process = Started(name, command, {**os.environ, **self.environment}, self.folder / f"{name}.log")
        self.started.append(process)
        return process

    def start_service(self, name, *command):
        """Starts a service on free ports and waits until it serves."""
        ready = self.folder / f"{name}.json"
        settings = [f"--set={port}.listen=127.0.0.1:0" for port in ["grpc", "metrics"]]
        service = self.start(name, *command, "--ready-file", ready, *settings)
        eventually(f"the {name} serves", lambda: service.expect_running() or ready.exists())
        service.addresses = json.loads(ready.read_text())
        return service

    def run(self, *command):
        """Runs a command, which must succeed. Returns its standard output."""
        environment = {**os.environ, **self.environment}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self.folder)
        said = result.stderr.strip() or result.stdout.strip()
        expect(result.returncode == 0, f"{' '.join(map(str, command))}: {said}")
        return result.stdout

    def stop(self):
        for process in self.started:
            process.stop()


class Started:
    """A process with its output in a file."""

    def __init__(self, name, command, environment, log):
        self.name, self.log = name, log
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=log.parent)

    def said(self):
        return self.log.read_text()

    def expect_running(self):
        expect(self.process.poll() is None, f"{self.name} ended with exit code {self.process.returncode}")

    def expect_success(self):
        """Waits for the end."""
        eventually(f"{self.name} ends", lambda: self.process.poll() is not None, LONGEST)
        expect(self.process.returncode == 0, f"{self.name} ended with exit code {self.process.returncode}")

    def expect_said(self, *texts):
        said = self.said()
        for text in texts:
            expect(text in said, f"{self.name} did not say: {text}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def eventually(what, condition, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        expect(time.monotonic() < deadline, f"not within {patience} s: {what}")
        time.sleep(0.02)


def expect(holds, otherwise):
    if not holds:
        raise Failure(otherwise)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def say(text):
    print(f"   {text}", flush=True)
