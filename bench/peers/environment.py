"""The peers' own Python environment, .deps/peers."""

import contextlib
import subprocess
import sys
from pathlib import Path

from dependencies import part, wheels

from . import PYTHON

PINS = Path(__file__).with_name("pins.txt")
GIGABYTES = 2


def install():
    """Installs what pins.txt names unless it is there. Returns the environment's Python."""
    # Standard output is for the figures.
    with contextlib.redirect_stdout(sys.stderr), part.exclusive():
        # An environment made by another interpreter no longer runs once that one is gone.
        part.install("peers", f"{sys.base_prefix} {sys.version}\n{PINS.read_text()}", fill)
    return part.DEPS / "peers/bin/python"


def fill(folder):
    """Makes the environment and installs the packages into it."""
    part.require_space(GIGABYTES)
    part.say("peers: fetching Triton and MLServer (300 MB)")
    # Without pip: Debian's Python cannot put pip into an environment unless python3-venv is installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for script in folder.glob("bin/[Aa]ctivate*"):
        script.unlink()  # it would name the folder's temporary place
    packages = folder / f"lib/python{PYTHON}/site-packages"
    wheels.pip("install", "--no-deps", f"--target={packages}", f"--requirement={PINS}")
