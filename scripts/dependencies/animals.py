"""Photographs of animals without a background: stamps of the drawing program Tux Paint, from Debian."""

import hashlib

from . import debian, part
from .debian import Unavailable
from .part import PINS, SetupError

NAME = "animals"
PIN = PINS / "animals.sha256"
DIGEST, PACKAGE = PIN.read_text().split()
STAMPS = "usr/share/tuxpaint/stamps/animals"
# Drawings and toys.
NO_PHOTOGRAPHS = {"cartoon", "toys"}


def install():
    """Installs .deps/animals with the pictures in one folder, and the licence."""
    part.install(NAME, PIN.read_text(), fill)


def fill(folder):
    part.say(f"{NAME}: fetching Debian's package {PACKAGE} (161 MB)")
    with part.scratch("package") as downloads:
        try:
            archive = debian.download(PACKAGE, downloads)
            if hashlib.sha256(archive.read_bytes()).hexdigest() != DIGEST:
                raise Unavailable(f"{archive.name} is another version; the pinned one has SHA-256 {DIGEST}")
            debian.unpack(archive, downloads)
        except Unavailable as error:
            raise SetupError(f"{NAME}: {error}") from error
        stamps = downloads / STAMPS
        for picture in sorted(stamps.rglob("*.png")):
            path = picture.relative_to(stamps)
            if not NO_PHOTOGRAPHS & set(path.parts):
                picture.rename(folder / "-".join(path.parts))
        (downloads / f"usr/share/doc/{PACKAGE}/copyright").rename(folder / "copyright")
