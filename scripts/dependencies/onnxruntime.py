"""ONNX Runtime's shared library from its Python wheel, without Python."""

import os
from pathlib import Path

from . import part, wheels
from .part import PINS, SetupError

PIN = PINS / "onnxruntime.txt"


def install():
    """Installs .deps/onnxruntime, or checks the library in ORT_DYLIB_PATH."""
    own = os.environ.get("ORT_DYLIB_PATH")
    if own is None:
        part.install("onnxruntime", PIN.read_text(), fill)
    elif Path(own).is_file():
        part.say(f"onnxruntime: yours, {own}")
    else:
        raise SetupError(f"ORT_DYLIB_PATH={own} is not a file: name a libonnxruntime.so, or unset it")


def fill(folder):
    """Puts lib/libonnxruntime.so and the licences into `folder`."""
    part.say("onnxruntime: fetching ONNX Runtime (28 MB)")
    lib = folder / "lib"
    with part.scratch("wheels") as downloads:
        wheels.download(PIN, downloads)
        wheels.unpack(
            downloads,
            {
                "onnxruntime/capi/libonnxruntime.so.*": ("onnxruntime/capi/", lib),
                "onnxruntime/LICENSE": ("onnxruntime/", folder),
                "onnxruntime/ThirdPartyNotices.txt": ("onnxruntime/", folder),
            },
        )
    (library,) = lib.iterdir()
    (lib / "libonnxruntime.so").symlink_to(library.name)
