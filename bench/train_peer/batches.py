"""Batches as a PyTorch user makes them fast: the images are in memory as u8, and tensor operations augment a batch."""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import pad as pad_images

# Bytes before the values of an IDX file.
IDX_IMAGES, IDX_LABELS = 16, 8


def load(folder, count):
    """The first `count` training images, u8 [n, channels, height, width], and their labels, i64 [n]."""
    folder = Path(folder)
    if (folder / "x_train.npy").exists():
        images = torch.from_numpy(np.load(folder / "x_train.npy")[:count]).permute(0, 3, 1, 2).contiguous()
        labels = np.load(folder / "y_train.npy")[:count]
    else:
        images = torch.from_numpy(idx(folder / "train-images-idx3-ubyte", IDX_IMAGES).reshape(-1, 1, 28, 28)[:count])
        labels = idx(folder / "train-labels-idx1-ubyte", IDX_LABELS)[:count]
    return images, torch.from_numpy(labels.astype(np.int64))


def idx(path, header):
    """The values of an IDX file."""
    return np.frombuffer(path.read_bytes(), np.uint8, offset=header).copy()


class Batches:
    """Endless shuffled batches: images, f32 [batch, channels, height, width], and labels, i64 [batch]."""

    def __init__(self, job, memory_format):
        self.images, self.labels = load(job["images"], job["samples"])
        self.batch_size = job["batch_size"]
        self.augmentation = job["augmentation"]
        self.memory_format = memory_format
        # x / 255, minus the mean, divided by the deviation, in two operations.
        self.shift, self.scale = (255 * torch.tensor(job[key]).view(1, -1, 1, 1) for key in ["mean", "std"])

    def __iter__(self):
        while True:
            for batch in torch.randperm(len(self.labels)).split(self.batch_size):
                images = augment(self.images[batch], **self.augmentation).to(torch.float32)
                images = images.sub_(self.shift).div_(self.scale)
                yield images.contiguous(memory_format=self.memory_format), self.labels[batch]


def augment(images, pad, horizontal_flip):
    """Mirrors half of the images and crops each from its zero-padded self."""
    count, channels, height, width = images.shape
    if horizontal_flip:
        flipped = torch.rand(count) < 0.5
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    if pad == 0:
        return images
    # Every crop is a view; one gather takes the chosen ones.
    crops = pad_images(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.randint(2 * pad + 1, (2, count))
    return crops[torch.arange(count), :, top, left]
