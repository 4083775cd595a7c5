"""Installs every part that is missing or outdated, then prints build and demo estimates for this machine."""

import argparse
import sys

from . import efficientnet_lite0, estimate, fashion_mnist, libtorch, onnxruntime, test_python
from .part import SetupError, exclusive

# The image build installs one part at a time.
PARTS = ["libtorch", "onnxruntime", "fashion-mnist"]
# Installed only if they are named.
OPTIONAL = ["efficientnet-lite0"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup")
    parser.add_argument("--tests", action="store_true", help="also install the tests' Python packages")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="device of libtorch")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"install only these of {', '.join(PARTS + OPTIONAL)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS + OPTIONAL):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS + OPTIONAL)}")
    try:
        with exclusive():
            wanted = arguments.parts or PARTS
            if "libtorch" in wanted:
                libtorch.install(arguments.device)
            if "onnxruntime" in wanted:
                onnxruntime.install()
            if "fashion-mnist" in wanted:
                fashion_mnist.install()
            if "efficientnet-lite0" in wanted:
                efficientnet_lite0.install()
            if arguments.tests:
                test_python.install()
    except SetupError as error:
        print(f"scripts/setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/setup: interrupted; complete parts are kept, run it again to continue", file=sys.stderr)
        return 130
    if not arguments.parts:
        print(estimate.describe())
    return 0


sys.exit(main())
