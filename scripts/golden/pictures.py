"""Writes the pictures of crates/datasets/src/decode/fixtures, and beside each the pixels that Pillow 12 reads from it.

    pip install 'pillow<13' numpy; python scripts/golden/pictures.py
"""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

FOLDER = pathlib.Path(__file__).parents[2] / "crates/datasets/src/decode/fixtures"
FOLDER.mkdir(exist_ok=True)
HEIGHT, WIDTH = 11, 18
GROUND = (250, 120, 10)

rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
smooth = np.stack([rows * 20, columns * 12, 255 - rows * 9 - columns * 6], axis=2).astype(np.uint8)
opacity = ((rows * 31 + columns * 17) % 256).astype(np.uint8)
color = Image.fromarray(smooth, "RGB")
gray = color.convert("L")


def upright(file):
    """The pixels as datasets are read: turned by EXIF, over the ground where they are transparent."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("RGBA", "LA"):
        opaque = Image.new("RGB", image.size, GROUND)
        opaque.paste(image.convert("RGB"), mask=image.getchannel("A"))
        image = opaque
    if image.mode == "I;16":
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode == "1":
        image = image.convert("L")
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def keep(name, file):
    pixels = upright(file)
    (FOLDER / name).write_bytes(file)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    shape = struct.pack("<III", channels, *pixels.shape[:2])
    (FOLDER / f"{name}.pixels").write_bytes(shape + pixels.tobytes())


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def png_of_16_bits(values):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


keep("gray.jpg", encoded(gray, "JPEG", quality=90))
keep("color-444.jpg", encoded(color, "JPEG", quality=90, subsampling=0))
keep("color-420.jpg", encoded(color, "JPEG", quality=90, subsampling=2))
keep("progressive.jpg", encoded(color, "JPEG", quality=90, progressive=True, subsampling=0))
cmyk = encoded(color.convert("CMYK"), "JPEG", quality=90)
keep("cmyk.jpg", cmyk)
# The transform of the Adobe segment: 0 is CMYK, 2 is YCCK.
adobe = cmyk.index(b"Adobe") + 11
keep("ycck.jpg", cmyk[:adobe] + b"\2" + cmyk[adobe + 1 :])
for orientation in range(1, 9):
    keep(f"exif-{orientation}.jpg", encoded(color, "JPEG", quality=95, subsampling=0, exif=exif(orientation)))
keep("exif-6.png", encoded(color, "PNG", exif=exif(6)))
keep("exif-6.webp", encoded(color, "WEBP", lossless=True, exif=exif(6)))
translucent = color.copy()
translucent.putalpha(Image.fromarray(opacity, "L"))
keep("alpha.png", encoded(translucent, "PNG"))
keep("alpha.webp", encoded(translucent, "WEBP", lossless=True, exact=True))
keep("gray-alpha.png", encoded(translucent.convert("LA"), "PNG"))
keep("palette.png", encoded(color.quantize(16), "PNG"))
keep("palette-transparent.png", encoded(color.quantize(16), "PNG", transparency=3))
keep("one-bit.png", encoded(gray.convert("1"), "PNG"))
keep("gray-16.png", encoded(Image.fromarray(smooth[..., 0].astype(np.uint16) * 201 + 77), "PNG"))
keep("color-16.png", png_of_16_bits(smooth.astype(np.uint16) * 255 + columns[..., None]))
keep("lossless.webp", encoded(color, "WEBP", lossless=True))
keep("lossy.webp", encoded(color, "WEBP", quality=90))
keep("animated.webp", encoded(color, "WEBP", lossless=True, save_all=True, append_images=[ImageOps.invert(color)]))
