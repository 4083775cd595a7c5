"""Stand-ins for NVIDIA's libraries.

PyPI has one PyTorch for Linux, which links NVIDIA's libraries (2.2 GB) and calls them only if the machine has a GPU.
Without a GPU, libraries that define the same functions are enough. The stand-in functions return 1, an error in all of
NVIDIA's interfaces.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from dependencies.part import SetupError

# What PyTorch loads when it is imported.
LOADED = ["libtorch_cuda.so", "libtorch_nvshmem.so", "libtorch_python.so"]
# The names of NVIDIA's functions; those of cudart and cupti are real.
FUNCTION = re.compile(r"\b(?:cublas|cudnn|cufft|cuFile|curand|cusolver|cusparse|nccl|nvshmem)\w+")
MISSING = [
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcufile.so.0",
    "libcurand.so.10",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvshmem_host.so.3",
]


def add(folder):
    """Puts the stand-ins into torch/lib."""
    if any(shutil.which(tool) is None for tool in ["cc", "nm"]):
        raise SetupError("cc or nm is missing. Install a compiler (Debian, Ubuntu: apt install g++)")
    undefined = output("nm", "-D", "--undefined-only", *[folder / name for name in LOADED])
    functions = sorted(set(FUNCTION.findall(undefined)))
    if not functions:
        raise SetupError(f"{folder} does not use NVIDIA's libraries as expected: adapt {Path(__file__).name}")
    labels = "".join(f".globl {name}\n.type {name}, @function\n{name}:\n" for name in functions)
    link("libstand-ins.so", folder, labels + "mov $1, %eax\nret\n")
    # The functions lie in a library of another name: the loader demands symbol versions of a library that it was asked
    # for, but takes symbols without a version from others.
    own = ["-Wl,--no-as-needed", f"-L{folder}", "-l:libstand-ins.so", "-Wl,-rpath,$ORIGIN"]
    link("libempty.so", folder, "", *own)
    for name in MISSING:
        (folder / name).symlink_to("libempty.so")


def link(name, folder, assembly, *options):
    """Makes a shared library from assembly code."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source.s"
        source.write_text(assembly + '.section .note.GNU-stack, "", @progbits\n')
        output("cc", "-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", folder / name, source, *options)


def output(*command):
    """Standard output of a command that must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
