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
    """Installs the packages in pins.txt unless they are installed. Returns the environment's Python."""
    # Standard output is reserved for the figures.
    with contextlib.redirect_stdout(sys.stderr), part.exclusive():
        # An environment of another interpreter stops working when that interpreter is removed.
        part.install("peers", f"{sys.base_prefix} {sys.version}\n{PINS.read_text()}", fill)
    return part.DEPS / "peers/bin/python"


def fill(folder):
    """Creates the environment and installs the packages."""
    part.require_space(GIGABYTES)
    part.say("peers: fetching Triton and MLServer (300 MB)")
    # Without pip: Debian's Python can add pip to an environment only if python3-venv is installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for script in folder.glob("bin/[Aa]ctivate*"):
        script.unlink()  # it contains the folder's temporary path
    packages = folder / f"lib/python{PYTHON}/site-packages"
    wheels.pip("install", "--no-deps", f"--target={packages}", f"--requirement={PINS}")
