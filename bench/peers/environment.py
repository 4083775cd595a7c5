"""The peers' own Python environment, .deps/peers."""

import contextlib
import sys
from pathlib import Path

from dependencies import part, python_environment

PINS = Path(__file__).with_name("pins.txt")
GIGABYTES = 2


def install():
    """Installs the packages in pins.txt unless they are installed. Returns the environment's Python."""
    # Standard output is reserved for the figures.
    with contextlib.redirect_stdout(sys.stderr), part.exclusive():
        part.install("peers", python_environment.stamp(PINS), fill)
    return part.DEPS / "peers/bin/python"


def fill(folder):
    """Creates the environment and installs the packages."""
    part.require_space(GIGABYTES)
    part.say("peers: fetching Triton and MLServer (300 MB)")
    python_environment.fill(folder, PINS)
