"""A part of .deps: a folder that is installed atomically and stamped with its pins."""

import contextlib
import fcntl
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEPS = REPOSITORY / ".deps"
PINS = Path(__file__).resolve().parent / "pins"


class SetupError(Exception):
    """Says what went wrong and what to do, in one or a few lines."""


@contextlib.contextmanager
def exclusive():
    """Makes a second set-up of the same checkout wait for the first."""
    DEPS.mkdir(exist_ok=True)
    with open(DEPS / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in DEPS.glob(".partial-*"):
            shutil.rmtree(leftover)
        yield


@contextlib.contextmanager
def scratch(name):
    """A temporary folder on the file system of .deps, removed afterwards in every case."""
    folder = DEPS / f".partial-{name}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(name, stamp, fill) -> bool:
    """Builds .deps/NAME with `fill(folder)` unless its stamp is current; returns whether it was built.

    The folder is renamed into place once it is complete, so an interrupted set-up leaves no partial folder.
    """
    target = DEPS / name
    with contextlib.suppress(OSError):
        if (target / ".stamp").read_text() == stamp:
            say(f"{name}: already there")
            return False
    with scratch(name) as partial:
        built = partial / name
        built.mkdir()
        fill(built)
        (built / ".stamp").write_text(stamp)
        if target.exists():
            target.rename(partial / "replaced")
        built.rename(target)
    say(f"{name}: installed in {target.relative_to(REPOSITORY)}")
    return True


def require_space(gigabytes):
    """Fails if the disk has too little free space."""
    free = shutil.disk_usage(DEPS).free
    if free < gigabytes * 1e9:
        raise SetupError(f"{gigabytes} GB are needed on the disk of {DEPS}, {free / 1e9:.1f} GB are free")


def say(text):
    """Prints a message without buffering."""
    print(text, flush=True)


def warn(text):
    """Prints a warning on standard error."""
    print(text, file=sys.stderr, flush=True)
