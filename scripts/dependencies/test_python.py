"""A Python environment for the tests: a third-party gRPC client and a second ONNX Runtime for comparison."""

import subprocess
import sys

from . import part, wheels
from .part import DEPS, PINS, SetupError

NAME = "python"


def install():
    """Installs .deps/python with the pins for the running Python version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pin = PINS / f"tests-python{version}.txt"
    if not pin.exists():
        supported = sorted(path.stem.removeprefix("tests-python") for path in PINS.glob("tests-python*.txt"))
        raise SetupError(f"the tests need a Python of {', '.join(supported)}; python3 is {version}")
    # An environment of another interpreter stops working when that interpreter is removed.
    part.install(NAME, f"{sys.base_prefix} {sys.version}\n{pin.read_text()}", lambda folder: fill(folder, pin, version))


def fill(folder, pin, version):
    """Creates the environment and installs the packages."""
    part.say("python: fetching the tests' Python packages (70 MB)")
    # Without pip: Debian's Python can add pip to an environment only if python3-venv is installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for script in folder.glob("bin/[Aa]ctivate*"):
        script.unlink()  # it contains the folder's temporary path
    packages = folder / "lib" / f"python{version}" / "site-packages"
    wheels.pip("install", "--no-deps", "--no-compile", f"--target={packages}", f"--requirement={pin}")
