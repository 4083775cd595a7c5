"""ELPV: photographs of functional and defective solar cells, as folders of two classes.

The data set gives each cell a probability of a defect: 0, 1/3, 2/3 or 1. The package has neither a threshold nor a
split, so both are chosen here: cells below 1/2 are functional, the others defective. The cells are sorted by
probability, type of module and SHA-256 of the file's name, and every fourth one is a test picture: 656 of 2,624. Figures
of publications with another threshold or split are not comparable.
"""

import hashlib

from . import part, wheels
from .part import PINS

NAME = "elpv"
PIN = PINS / "elpv.txt"
DATA = "elpv_dataset/data/"
LICENSES = "elpv_dataset-1.0.0.post1.dist-info/licenses/"
TEST_EVERY = 4


def install():
    """Installs .deps/elpv with train/CLASS, test/CLASS and the licence."""
    part.install(NAME, f"{PIN.read_text()}{__doc__}", fill)


def fill(folder):
    part.say(f"{NAME}: fetching the photographs (91 MB)")
    with part.scratch("wheels") as downloads:
        wheels.download(PIN, downloads)
        wheels.unpack(
            downloads,
            {
                DATA + "labels.csv": (DATA, downloads),
                DATA + "images/*.png": (DATA, downloads),
                LICENSES + "LICENSE.md": (LICENSES, folder),
            },
        )
        cells = [line.split() for line in (downloads / "labels.csv").read_text().splitlines()]
        for position, (path, probability, _) in enumerate(sorted(cells, key=order)):
            split = "test" if position % TEST_EVERY == TEST_EVERY - 1 else "train"
            name = "functional" if float(probability) < 0.5 else "defective"
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            (downloads / path).rename(target / path.rpartition("/")[2])


def order(cell):
    """Sorts by stratum, then without regard to the order in which the cells were photographed."""
    path, probability, module = cell
    return float(probability), module, hashlib.sha256(path.encode()).hexdigest()
