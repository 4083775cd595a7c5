"""Writes crates/datasets/src/operations/golden.json: what torchvision makes of small PIL images.

    pip install torch==2.11.0 torchvision==0.26.0 'pillow<14' numpy; python scripts/golden/augmentation.py
"""

import json
import pathlib

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

FILE = pathlib.Path(__file__).parents[2] / "crates/datasets/src/operations/golden.json"
HEIGHT, WIDTH = 16, 20


def picture(channels):
    """Smooth and noisy parts, neither black nor white: auto-contrast has something to stretch."""
    row, column, channel = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    values = 30 + row * 7 + column * (channel + 1) + (row * 7 + column * 13 + channel * 29) % 41
    values = values.astype(np.uint8)
    return Image.fromarray(values[:, :, 0] if channels == 1 else values)


def planes(image):
    """[channels, height, width], as hex digits."""
    array = np.asarray(image)
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)).tobytes().hex()


def affine(degrees, shift):
    def change(image):
        return functional.affine(image, degrees, shift, 1.0, [0.0, 0.0], InterpolationMode.BILINEAR)

    return change


def shear(right, down):
    def change(image):
        degrees = [float(np.degrees(np.arctan(share))) for share in (right, down)]
        return functional.affine(image, 0.0, [0, 0], 1.0, degrees, InterpolationMode.BILINEAR, center=[0, 0])

    return change


def factors(name, function, values):
    return [(name, [value], lambda image, value=value: function(image, value)) for value in values]


cases = [
    *[("affine", [degrees, *shift], affine(degrees, shift)) for degrees, shift in [
        (0.0, [0, 0]), (0.0, [3, -2]), (10.0, [0, 0]), (-25.5, [-4, 5]), (133.0, [1, 1]),
    ]],
    *[("shear", list(by), shear(*by)) for by in [(0.2, 0.0), (-0.1, 0.0), (0.0, 0.3)]],
    *factors("brightness", functional.adjust_brightness, [0.3, 1.7]),
    *factors("contrast", functional.adjust_contrast, [0.0, 0.4, 1.9]),
    *factors("saturation", functional.adjust_saturation, [0.0, 0.5, 2.5]),
    *factors("hue", functional.adjust_hue, [0.0, 0.1, -0.33, 0.5]),
    *factors("sharpness", functional.adjust_sharpness, [0.1, 1.0, 1.9]),
    *factors("posterize", functional.posterize, [1, 4, 8]),
    *factors("solarize", functional.solarize, [0.0, 127.5, 255.0]),
    ("auto_contrast", [], functional.autocontrast),
    ("equalize", [], functional.equalize),
]
golden = {"size": [HEIGHT, WIDTH], "pictures": {}, "cases": []}
for channels in (1, 3):
    image = picture(channels)
    golden["pictures"][channels] = planes(image)
    for name, arguments, change in cases:
        case = {"channels": channels, "name": name, "arguments": arguments, "pixels": planes(change(image))}
        golden["cases"].append(case)
FILE.write_text(json.dumps(golden, indent=0) + "\n")
