"""Photographs of cats, dogs and birds whose classes are known, and a few of other things.

They are the 20 pictures of ImageNet in foolbox, whose names end with the number of their class, and the cat of
scikit-image.
"""

from . import part, wheels
from .part import PINS

NAME = "pets"
PIN = PINS / "pets.txt"
FOOLBOX, SCIKIT = "foolbox/data/", "skimage/data/"
CAT = "chelsea.png"
# The classes of ImageNet in each class here: configs/pets/teacher.toml has the same ones.
CLASSES = {
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)],
    "cat": [*range(281, 286)],
    "dog": [*range(151, 269)],
}


def install():
    """Installs .deps/pets with known/CLASS and other."""
    part.install(NAME, PIN.read_text() + repr(CLASSES), fill)


def fill(folder):
    part.say(f"{NAME}: fetching 21 photographs (15 MB)")
    with part.scratch("wheels") as downloads:
        wheels.download(PIN, downloads)
        pictures = downloads / "pictures"
        wheels.unpack(downloads, {FOOLBOX + "imagenet_*": (FOOLBOX, pictures), SCIKIT + CAT: (SCIKIT, pictures)})
        for picture in sorted(pictures.iterdir()):
            target = folder / place(picture)
            target.mkdir(parents=True, exist_ok=True)
            picture.rename(target / picture.name)


def place(picture):
    """The folder of a picture."""
    if picture.name == CAT:
        return "known/cat"
    number = int(picture.stem.rpartition("_")[2])
    return next((f"known/{name}" for name, numbers in CLASSES.items() if number in numbers), "other")
