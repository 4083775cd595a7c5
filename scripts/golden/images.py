"""Prints golden values for datasets/src/image/tests.rs: the results of Pillow 12 for a small image.

    pip install 'pillow<13' numpy; python scripts/golden/images.py
"""

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 7, 9


def pixels(channels):
    count = HEIGHT * WIDTH * channels
    values = (np.arange(count) * 37 + np.arange(count) // 5 * 11) % 256
    return values.astype(np.uint8).reshape(HEIGHT, WIDTH, channels)


def show(name, array):
    print(f"{name}: {array.reshape(-1).tolist()}")


gray = Image.fromarray(pixels(1)[:, :, 0], "L")
color = Image.fromarray(pixels(3), "RGB")
show("gray", np.asarray(color.convert("L")))
for height, width in [(3, 4), (11, 13), (3, 13), (7, 4)]:
    show(f"resize {height}x{width}", np.asarray(gray.resize((width, height), Image.BILINEAR)))
show("resize rgb 2x3, by channel", np.asarray(color.resize((3, 2), Image.BILINEAR)).transpose(2, 0, 1))
