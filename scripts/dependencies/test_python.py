"""A Python environment for the tests: a foreign gRPC client and a second ONNX Runtime to compare with."""

import subprocess
import sys

from . import part, wheels
from .part import DEPS, PINS, SetupError

NAME = "python"


def install():
    """Installs .deps/python, pinned for the Python that runs this."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pin = PINS / f"tests-python{version}.txt"
    if not pin.exists():
        supported = sorted(path.stem.removeprefix("tests-python") for path in PINS.glob("tests-python*.txt"))
        raise SetupError(f"the tests need a Python of {', '.join(supported)}; python3 is {version}")
    # An environment made by another interpreter no longer runs once that one is gone.
    part.install(NAME, f"{sys.base_prefix} {sys.version}\n{pin.read_text()}", lambda folder: fill(folder, pin, version))


def fill(folder, pin, version):
    """Makes the environment and installs the packages into it."""
    part.say("python: fetching the tests' Python packages (70 MB)")
    # Without pip: Debian's Python cannot put pip into an environment unless python3-venv is installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for script in folder.glob("bin/[Aa]ctivate*"):
        script.unlink()  # it would name the folder's temporary place
    packages = folder / "lib" / f"python{version}" / "site-packages"
    wheels.pip("install", "--no-deps", "--no-compile", f"--target={packages}", f"--requirement={pin}")
