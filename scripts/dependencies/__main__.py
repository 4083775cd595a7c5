"""Installs every part that is missing or outdated, then prints build and demo estimates for this machine."""

import argparse
import sys

from . import (
    animals,
    efficientnet_lite0,
    elpv,
    estimate,
    fashion_mnist,
    kubernetes,
    libtorch,
    onnxruntime,
    pets,
    seaweedfs,
    test_python,
)
from .part import SetupError, exclusive

# The image build installs one part at a time.
PARTS = ["libtorch", "onnxruntime", "fashion-mnist"]
# Installed only if they are named.
OPTIONAL = {
    "efficientnet-lite0": efficientnet_lite0.install,
    "elpv": elpv.install,
    "pets": pets.install,
    "animals": animals.install,
    "seaweedfs": seaweedfs.install,
    "kubernetes": kubernetes.install,
}
# What the tests need besides their Python packages.
FOR_TESTS = ["efficientnet-lite0", "pets", "seaweedfs", "kubernetes"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup")
    parser.add_argument("--tests", action="store_true", help="also install what only tests need")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="device of libtorch (the installed one's, or cpu)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"install only these of {', '.join([*PARTS, *OPTIONAL])}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - {*PARTS, *OPTIONAL}:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; parts are {', '.join([*PARTS, *OPTIONAL])}")
    try:
        with exclusive():
            wanted = arguments.parts or PARTS
            if "libtorch" in wanted:
                libtorch.install(arguments.device)
            if "onnxruntime" in wanted:
                onnxruntime.install()
            if "fashion-mnist" in wanted:
                fashion_mnist.install()
            for name in OPTIONAL:
                if name in wanted or (arguments.tests and name in FOR_TESTS):
                    OPTIONAL[name]()
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
