"""A Python environment for the tests: third-party clients, model-signing, TensorBoard, and a second ONNX Runtime for comparison."""

from . import part, python_environment
from .part import PINS, SetupError

NAME = "python"


def install():
    """Installs .deps/python with the pins for the running Python version."""
    version = python_environment.running_version()
    pin = PINS / f"tests-python{version}.txt"
    if not pin.exists():
        supported = sorted(path.stem.removeprefix("tests-python") for path in PINS.glob("tests-python*.txt"))
        raise SetupError(f"the tests need a Python of {', '.join(supported)}; python3 is {version}")
    part.install(NAME, python_environment.stamp(pin), lambda folder: fill(folder, pin))


def fill(folder, pin):
    """Creates the environment and installs the packages."""
    part.say("python: fetching the tests' Python packages (103 MB)")
    python_environment.fill(folder, pin, "--no-compile")
