"""Installs every part that is missing or pinned otherwise, then tells what to expect of this machine."""

import argparse
import sys

from . import estimate, fashion_mnist, libtorch, onnxruntime, test_python
from .part import SetupError, exclusive


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup")
    parser.add_argument("--tests", action="store_true", help="also the Python packages that the tests call")
    arguments = parser.parse_args()
    try:
        with exclusive():
            libtorch.install()
            onnxruntime.install()
            fashion_mnist.install()
            if arguments.tests:
                test_python.install()
    except SetupError as error:
        print(f"scripts/setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/setup: interrupted; what was complete is kept, run it again to go on", file=sys.stderr)
        return 130
    print(estimate.describe())
    return 0


sys.exit(main())
