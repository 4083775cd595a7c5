"""Fashion-MNIST as plain IDX files, from the first source whose files have the pinned SHA-256."""

import gzip
import hashlib
import os
import shutil
import sys
import urllib.request
from pathlib import Path

from . import debian, part
from .debian import Unavailable
from .part import DEPS, PINS, SetupError

NAME = "fashion-mnist"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
PUBLIC_DOWNLOAD = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

PIN = PINS / "fashion-mnist.sha256"
# File name -> SHA-256 of the decompressed file, because sources compress the files differently.
FILES = {name: digest for digest, name in map(str.split, PIN.read_text().splitlines())}


def install():
    """Installs .deps/fashion-mnist from the first source with the correct files."""
    if all(intact(DEPS / NAME / name) for name in FILES):
        part.say(f"{NAME}: already there")
    else:
        (DEPS / NAME / ".stamp").unlink(missing_ok=True)
        part.install(NAME, PIN.read_text(), fill)


def intact(path):
    """Whether the file exists and has its pinned SHA-256."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == FILES[path.name]


def fill(folder):
    """Uses the folder in FASHION_MNIST_DIR; without it, tries Debian's package, then the public download."""
    if "FASHION_MNIST_DIR" in os.environ:
        sources = [own_folder]
    else:
        sources = [debian_package, public_download]
    reasons = []
    for source in sources:
        with part.scratch("download") as downloads:
            try:
                decompress(source(downloads), folder)
                return
            except (Unavailable, OSError) as error:
                reasons.append(f"\n  {source.__doc__}: {error}")
    raise SetupError(
        f"no source provides Fashion-MNIST:{''.join(reasons)}\n"
        f"Put its four files into a folder and set FASHION_MNIST_DIR to that folder."
    )


def own_folder(_):
    """FASHION_MNIST_DIR"""
    return Path(os.environ["FASHION_MNIST_DIR"])


def debian_package(downloads):
    """Debian's package"""
    part.say(f"{NAME}: fetching Debian's package {DEBIAN_PACKAGE} (31 MB)")
    debian.unpack(debian.download(DEBIAN_PACKAGE, downloads), downloads)
    return downloads / "usr/share/datasets" / NAME


def public_download(downloads):
    """the data set's public download"""
    for name in FILES:
        fetch(f"{PUBLIC_DOWNLOAD}/{name}.gz", downloads / f"{name}.gz")
    return downloads


def fetch(url, path):
    """Downloads one file and shows progress on a terminal."""
    with urllib.request.urlopen(url, timeout=60) as response, open(path, "wb") as output:
        size, done = int(response.headers.get("Content-Length", 0)), 0
        part.say(f"{NAME}: fetching {path.name} ({size / 1e6:.1f} MB)")
        while block := response.read(1 << 18):
            output.write(block)
            done += len(block)
            if sys.stdout.isatty() and size:
                print(f"\r  {100 * done // size:3} %", end="\n" if done == size else "", flush=True)


def decompress(source, folder):
    """Copies the four files from `source`, plain or .gz, and verifies each."""
    for name, digest in FILES.items():
        plain, packed = source / name, source / f"{name}.gz"
        if plain.is_file():
            shutil.copyfile(plain, folder / name)
        elif packed.is_file():
            try:
                with gzip.open(packed) as stream, open(folder / name, "wb") as output:
                    shutil.copyfileobj(stream, output)
            except (EOFError, gzip.BadGzipFile) as error:
                raise Unavailable(f"{packed} is damaged: {error}") from error
        else:
            raise Unavailable(f"{source} holds neither {name} nor {name}.gz")
        if not intact(folder / name):
            raise Unavailable(f"{name} in {source} is not the published file: its SHA-256 is not {digest}")
