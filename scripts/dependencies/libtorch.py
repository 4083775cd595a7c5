"""libtorch: headers and libraries from the PyTorch wheel, without Python."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from . import part, wheels
from .part import DEPS, PINS, REPOSITORY, SetupError

PIN = PINS / "libtorch.txt"
PIN_CUDA = PINS / "libtorch-cuda.txt"
VERSION = re.search(r"^torch==(\S+)", PIN.read_text(), re.MULTILINE).group(1)


def install(device=None):
    """Installs .deps/libtorch for "cpu" or "cuda", or checks the folder in LIBTORCH.

    Without a device, a later set-up keeps the device of the installed libtorch.
    """
    if "LIBTORCH" in os.environ:
        check_own(Path(os.environ["LIBTORCH"]))
        return
    pin, fill = {"cpu": (PIN, fill_cpu), "cuda": (PIN_CUDA, fill_cuda)}[device or installed_device()]
    replaces = (DEPS / "libtorch").exists()
    if part.install("libtorch", pin.read_text(), fill) and replaces:
        forget_build()


def installed_device():
    """The device of .deps/libtorch; "cpu" if there is none."""
    version = DEPS / "libtorch/build-version"
    return "cuda" if version.is_file() and "+cu" in version.read_text() else "cpu"


def fill_cpu(folder):
    """Puts lib/, include/ and the licences into `folder`, without the GPU libraries."""
    part.require_space(2)
    part.say(f"libtorch: fetching PyTorch {VERSION} (545 MB, of which 520 MB unpacked are kept)")
    with part.scratch("wheels") as downloads:
        wheels.download(PIN, downloads)
        part.say("libtorch: unpacking")
        lib, licenses = folder / "lib", folder / "licenses"
        # No libtorch_cuda.so: the Rust bindings link it if it exists.
        wheels.unpack(
            downloads,
            {
                "torch/lib/libtorch_cpu.so": ("torch/lib/", lib),
                "torch/lib/libc10.so": ("torch/lib/", lib),
                "torch/lib/libgomp.so.1": ("torch/lib/", lib),
                "nvidia/cu13/lib/libcudart.so.13": ("nvidia/cu13/lib/", lib),
                "nvidia/cu13/lib/libcupti.so.13": ("nvidia/cu13/lib/", lib),
                "torch/include/*": ("torch/include/", folder / "include"),
                "*.dist-info/licenses/*": ("", licenses),
            },
        )
    # The wheel's libtorch.so only links the others, including libtorch_cuda.so.
    (lib / "libtorch.so").symlink_to("libtorch_cpu.so")
    (folder / "build-version").write_text(f"{VERSION}+cpu\n")


def fill_cuda(folder):
    """Puts lib/, include/ and the licences into `folder`, with the libraries for NVIDIA's GPUs."""
    part.require_space(9)
    part.say(f"libtorch: fetching PyTorch {VERSION} and NVIDIA's libraries (2.7 GB)")
    with part.scratch("wheels") as downloads:
        wheels.download(PIN_CUDA, downloads)
        part.say("libtorch: unpacking")
        lib = folder / "lib"
        wheels.unpack(
            downloads,
            {
                "torch/lib/libc10*.so": ("torch/lib/", lib),
                "torch/lib/libcaffe2_nvrtc.so": ("torch/lib/", lib),
                "torch/lib/libgomp.so.1": ("torch/lib/", lib),
                "torch/lib/libtorch.so": ("torch/lib/", lib),
                "torch/lib/libtorch_cpu.so": ("torch/lib/", lib),
                "torch/lib/libtorch_cuda*.so": ("torch/lib/", lib),
                "torch/lib/libtorch_nvshmem.so": ("torch/lib/", lib),
                "torch/include/*": ("torch/include/", folder / "include"),
                # crates/torch-build looks for them here.
                "nvidia/cu13/include/*": ("", folder),
                "nvidia/nccl/include/*": ("", folder),
                "nvidia/cu13/lib/*.so*": ("nvidia/cu13/lib/", lib),
                "nvidia/cudnn/lib/*.so*": ("nvidia/cudnn/lib/", lib),
                "nvidia/cusparselt/lib/*.so*": ("nvidia/cusparselt/lib/", lib),
                "nvidia/nccl/lib/*.so*": ("nvidia/nccl/lib/", lib),
                "nvidia/nvshmem/lib/libnvshmem_host.so*": ("nvidia/nvshmem/lib/", lib),
                "*.dist-info/licenses/*": ("", folder / "licenses"),
            },
        )
    (folder / "build-version").write_text(f"{VERSION}+cu130\n")


def check_own(folder):
    """Rejects an unusable LIBTORCH before a long build would fail."""
    if not folder.is_absolute():
        raise SetupError(f"LIBTORCH={folder} must be an absolute path: crates are built in other folders")
    for file in ["lib/libtorch_cpu.so", "include/torch/csrc/api/include/torch/torch.h"]:
        if not (folder / file).is_file():
            raise SetupError(f"LIBTORCH={folder} has no {file}: name a libtorch {VERSION}, or unset LIBTORCH")
    part.say(f"libtorch: yours, {folder} (Retort is tested with {VERSION})")


def forget_build():
    """Removes the builds that depend on libtorch's device; cargo does not notice changes inside the libtorch folder."""
    if (REPOSITORY / "target").exists() and shutil.which("cargo"):
        packages = ["-p", "torch-sys", "-p", "torch-distributed"]
        subprocess.run(["cargo", "clean", "--quiet", "--release", *packages], cwd=REPOSITORY, check=True)
