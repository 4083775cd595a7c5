"""Fashion-MNIST as a torchvision network expects pictures: 3 channels, 64 x 64."""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

FOLDER = Path(__file__).resolve().parents[2] / ".deps/fashion-mnist"
SIZE = 64
# Of the training pictures, as in configs/run.toml; the same for all channels.
MEAN, STD = [0.2860] * 3, [0.3530] * 3
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def load(split, count):
    """The first `count` pictures of "train" or "t10k": u8 pixels [n, 3, 64, 64] and labels [n]."""
    images = idx(f"{split}-images-idx3-ubyte", 16).reshape(-1, 28, 28)[:count]
    labels = idx(f"{split}-labels-idx1-ubyte", 8)[:count]
    # In parts, because f32 pictures of this size take much memory.
    parts = [enlarge(torch.from_numpy(part)) for part in np.array_split(images, max(1, len(images) // 1000))]
    return torch.cat(parts), torch.from_numpy(labels.astype(np.int64))


def normalize(pixels):
    """(x / 255 - mean) / std per channel, f32."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def enlarge(images):
    """u8 [n, 28, 28] to u8 [n, 3, 64, 64]."""
    enlarged = interpolate(images.float().unsqueeze(1), (SIZE, SIZE), mode="bilinear", align_corners=False)
    return enlarged.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()


def idx(name, header):
    """The values of an IDX file."""
    path = FOLDER / name
    if not path.exists():
        raise SystemExit(f"bench/make-teacher-files: {path} is missing: run scripts/setup")
    return np.frombuffer(path.read_bytes(), np.uint8, offset=header)
