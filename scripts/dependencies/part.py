"""A part of .deps: a folder that is there as a whole, stamped with its pins, or not at all."""

import contextlib
import fcntl
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEPS = REPOSITORY / ".deps"
PINS = Path(__file__).resolve().parent / "pins"


class SetupError(Exception):
    """What went wrong and what to do about it, in one line or a few."""


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
    """A folder on the same file system as .deps, gone afterwards whatever happens."""
    folder = DEPS / f".partial-{name}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(name, stamp, fill) -> bool:
    """Lets `fill(folder)` build .deps/NAME unless its stamp says that it is there; True if it was built.

    The folder is renamed into place when it is complete, so an interrupted set-up leaves no half of it.
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
    """Refuses to start what the disk cannot hold."""
    free = shutil.disk_usage(DEPS).free
    if free < gigabytes * 1e9:
        raise SetupError(f"{gigabytes} GB are needed on the disk of {DEPS}, {free / 1e9:.1f} GB are free")


def say(text):
    """Tells the user, at once."""
    print(text, flush=True)


def warn(text):
    """Tells the user what is amiss but no reason to stop."""
    print(text, file=sys.stderr, flush=True)
