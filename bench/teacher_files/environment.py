"""The Python environment with PyTorch, .deps/pytorch, without NVIDIA's libraries."""

import subprocess
from pathlib import Path

from dependencies import part, python_environment

PINS = Path(__file__).with_name("pins.txt")
STUBS = Path(__file__).with_name("stubs.py")
GIGABYTES = 3


def install():
    """Installs the packages in pins.txt unless they are installed. Returns the environment's Python."""
    with part.exclusive():
        part.install("pytorch", python_environment.stamp(PINS) + STUBS.read_text(), fill)
    return part.DEPS / "pytorch/bin/python"


def fill(folder):
    """Creates the environment and installs the packages."""
    from . import stubs

    part.require_space(GIGABYTES)
    part.say("pytorch: fetching PyTorch, torchvision and the ONNX exporter (600 MB, 1.5 GB unpacked)")
    packages = python_environment.fill(folder, PINS)
    stubs.add(packages / "torch/lib")
    # In the environment itself, because a broken one must not be kept.
    subprocess.run([folder / "bin/python", "-c", "import torch, torchvision"], check=True)
