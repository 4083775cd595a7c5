"""Prints golden values of what Pillow 12 makes of small images: for crates/datasets/src/image/tests.rs, bicubic for
crates/datasets/src/render/tests.rs, and of 16 bits for inference-service/src/classification/decoding/tests.rs.

    pip install 'pillow<13' numpy; python scripts/golden/images.py
"""

import io
import struct
import zlib

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
# `soft` in render/tests.rs. torchvision's `Resize` gives the same for a Pillow image.
soft = Image.fromarray((60 + np.arange(12 * 17) * 37 % 251 // 2).astype(np.uint8).reshape(12, 17), "L")
for height, width in [(5, 7), (15, 13)]:
    show(f"bicubic {height}x{width}", np.asarray(soft.resize((width, height), Image.BICUBIC)))
show("resize rgb 2x3, by channel", np.asarray(color.resize((3, 2), Image.BILINEAR)).transpose(2, 0, 1))


def png_of_16_bits(values):
    """A row of pixels whose red, green and blue are the same value."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + b"".join(struct.pack(">HHH", value, value, value) for value in values)
    header = struct.pack(">IIBBBBB", len(values), 1, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunks)


values = [0, 0x7F, 0x80, 0xFF, 0x100, 0x127F, 0x1280, 0x12FF, 0xFF7F, 0xFFFF]
show("16 bits", np.asarray(Image.open(png_of_16_bits(values)).convert("RGB"))[:, :, 0])
