"""Debian packages, fetched with apt-get and unpacked without root."""

import os
import shutil
import subprocess


class Unavailable(Exception):
    """A source does not have the files; another one may have them."""


def download(package, folder):
    """Downloads the package into `folder`; returns the path of the .deb file."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise Unavailable("this system has no apt-get")
    if not apt_get("download", package, cwd=folder):
        # A new machine has no package lists yet; only root can download them.
        if os.geteuid() != 0 or not apt_get("update") or not apt_get("download", package, cwd=folder):
            raise Unavailable(f"apt-get download {package} failed; sudo apt-get update may help")
    archives = list(folder.glob(f"{package}_*.deb"))
    if len(archives) != 1:
        raise Unavailable(f"apt-get download {package} left no package")
    return archives[0]


def unpack(archive, folder):
    """Unpacks a .deb file into `folder`."""
    if subprocess.run(["dpkg", "-x", archive, folder]).returncode != 0:
        raise Unavailable(f"dpkg cannot unpack {archive.name}")


def apt_get(*arguments, cwd=None):
    """Runs apt-get without output; returns whether it succeeded."""
    call = ["apt-get", "--quiet=2", *arguments]
    return subprocess.run(call, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
