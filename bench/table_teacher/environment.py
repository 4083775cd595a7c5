"""The Python environment with scikit-learn, .deps/scikit-learn."""

import subprocess
from pathlib import Path

from dependencies import part, python_environment

PINS = Path(__file__).with_name("pins.txt")
GIGABYTES = 1


def install():
    """Installs the packages in pins.txt unless they are installed. Returns the environment's Python."""
    with part.exclusive():
        part.install("scikit-learn", python_environment.stamp(PINS), fill)
    return part.DEPS / "scikit-learn/bin/python"


def fill(folder):
    """Creates the environment and installs the packages."""
    part.require_space(GIGABYTES)
    part.say("scikit-learn: fetching scikit-learn and its ONNX exporter (100 MB, 400 MB unpacked)")
    python_environment.fill(folder, PINS)
    # In the environment itself, because a broken one must not be kept.
    subprocess.run([folder / "bin/python", "-c", "import onnxruntime, skl2onnx, sklearn"], check=True)
