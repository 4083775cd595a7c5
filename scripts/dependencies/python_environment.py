"""Python environments that contain exactly the pinned packages."""

import os
import shutil
import subprocess
import sys

from . import wheels
from .part import SetupError


def fill(folder, pins, *options):
    """Creates an environment of the running Python in `folder` and installs `pins`; returns its folder of packages."""
    # Without pip: Debian's Python can add pip to an environment only if python3-venv is installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for script in folder.glob("bin/[Aa]ctivate*"):
        script.unlink()  # it contains the folder's temporary path
    packages = folder / f"lib/python{running_version()}/site-packages"
    wheels.pip("install", "--no-deps", *options, f"--target={packages}", f"--requirement={pins}")
    return packages


def stamp(pins):
    """The content of an environment: another interpreter or other pins make another one."""
    # An environment of another interpreter stops working when that interpreter is removed.
    return f"{sys.base_prefix} {sys.version}\n{pins.read_text()}"


def restart_with(version):
    """Restarts the program with this Python version, unless it is running."""
    if running_version() == version:
        return
    program = shutil.which(f"python{version}")
    if program is None:
        raise SetupError(f"the packages are pinned for Python {version}; install python{version}")
    os.execv(program, [program, *sys.argv])


def running_version():
    """For example 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
