"""Computes the golden values of published networks: tensor names, shapes and logits.

For each network it builds the library's own implementation, fills every tensor with values that depend on
nothing but the tensor's position in the sorted list of names and on the element's index (`fill`), runs two
images and the pixels of two images, and writes crates/torch-networks/tests/golden/public.json. The test fills a safetensors file in the
same way, so no weights are committed.

The committed values are from torch 2.11.0, torchvision 0.26.0, timm 1.0.22, transformers 4.57.1 and
efficientnet-lite-pytorch 0.1.0. The script needs these; run it from the repository's root:
    python scripts/golden/public_weights.py
"""

import json
from pathlib import Path

import numpy
import timm
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

FILE = Path("crates/torch-networks/tests/golden/public.json")
CLASSES = 10
SAMPLES = 2
# Of the pixels, per channel: ImageNet's.
MEAN, STD = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class Logits(nn.Module):
    """A model of transformers that returns its logits only."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits


def hugging_face_resnet50() -> nn.Module:
    config = ResNetConfig(depths=[3, 4, 6, 3], layer_type="bottleneck", num_labels=CLASSES)
    return ResNetForImageClassification(config)


def hugging_face_mobilenet() -> nn.Module:
    return MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=CLASSES))


def lite0() -> nn.Module:
    return EfficientNet.from_name("efficientnet-lite0", num_classes=CLASSES, image_size=64)


# Name of the case, preset, side of the images, network.
CASES = [
    ("torchvision resnet18", 'preset = "resnet18"', 64, lambda: torchvision.models.resnet18(num_classes=CLASSES)),
    ("timm resnet34", 'preset = "resnet34"', 64, lambda: timm.create_model("resnet34", num_classes=CLASSES)),
    ("hugging face resnet50", 'preset = "resnet50"', 64, hugging_face_resnet50),
    (
        "torchvision mobilenet_v2",
        'preset = "mobilenet_v2"',
        128,
        lambda: torchvision.models.mobilenet_v2(num_classes=CLASSES),
    ),
    (
        "torchvision mobilenet_v2, width 0.5",
        'preset = "mobilenet_v2"\nwidth = 0.5',
        128,
        lambda: torchvision.models.mobilenet_v2(num_classes=CLASSES, width_mult=0.5),
    ),
    (
        "timm mobilenetv2_100",
        'preset = "mobilenet_v2"',
        128,
        lambda: timm.create_model("mobilenetv2_100", num_classes=CLASSES),
    ),
    (
        "hugging face mobilenet_v2",
        'preset = "mobilenet_v2"\nconvention = "tensorflow"',
        128,
        hugging_face_mobilenet,
    ),
    ("efficientnet-lite-pytorch", 'preset = "efficientnet_lite0"', 64, lite0),
    (
        "timm tf_efficientnet_lite0",
        'preset = "efficientnet_lite0"',
        64,
        lambda: timm.create_model("tf_efficientnet_lite0", num_classes=CLASSES),
    ),
    (
        "timm efficientnet_lite0",
        'preset = "efficientnet_lite0"\nconvention = "torch"',
        64,
        lambda: timm.create_model("efficientnet_lite0", num_classes=CLASSES),
    ),
    (
        "timm tf_efficientnet_lite2",
        'preset = "efficientnet_lite"\nwidth = 1.1\ndepth = 1.2',
        128,
        lambda: timm.create_model("tf_efficientnet_lite2", num_classes=CLASSES),
    ),
]
# Too large to run in a test: names and shapes only.
NAMES_ONLY = [
    ("torchvision vgg16_bn", 'preset = "vgg16_bn"', 224, lambda: torchvision.models.vgg16_bn(num_classes=CLASSES)),
    ("timm vgg16_bn", 'preset = "vgg16_bn"', 224, lambda: timm.create_model("vgg16_bn", num_classes=CLASSES)),
]


def uniform(count: int, stream: int) -> numpy.ndarray:
    """Numbers in [-0.5, 0.5): the finalizer of MurmurHash3 on 32-bit counters, in 64-bit arithmetic."""
    mask = numpy.uint64(0xFFFFFFFF)
    x = (numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(2654435761)) & mask
    x = (x + numpy.uint64(stream * 40503)) & mask
    x ^= x >> numpy.uint64(16)
    x = (x * numpy.uint64(0x85EBCA6B)) & mask
    x ^= x >> numpy.uint64(13)
    x = (x * numpy.uint64(0xC2B2AE35)) & mask
    x ^= x >> numpy.uint64(16)
    return x.astype(numpy.float64) / 2**32 - 0.5


def fill(name: str, shape: list[int], stream: int) -> numpy.ndarray:
    """Values of one tensor; they keep the activations of a deep network near 1."""
    count = int(numpy.prod(shape))
    noise = uniform(count, stream)
    if name.endswith("running_var"):
        values = 1.0 + noise
    elif len(shape) > 1:
        values = noise * numpy.sqrt(24.0 / (count // shape[0]))
    elif name.endswith("weight"):
        values = 1.0 + 0.5 * noise
    else:
        values = 0.4 * noise
    return values.astype(numpy.float32).reshape(shape)


def describe(case, run: bool) -> dict:
    name, preset, side, build = case
    model = build().eval()
    state = model.state_dict()
    names = sorted(name for name in state if not name.endswith("num_batches_tracked"))
    tensors = {name: list(state[name].shape) for name in names}
    described = {"name": name, "preset": preset, "side": side, "tensors": tensors}
    if run:
        for stream, (key, shape) in enumerate(tensors.items(), 1):
            state[key].copy_(torch.from_numpy(fill(key, shape, stream)))
        if hasattr(model, "config"):
            model = Logits(model)
        noise = uniform(SAMPLES * 3 * side * side, 0).reshape(SAMPLES, 3, side, side)
        images = 4 * noise.astype(numpy.float32)
        pixels = torch.from_numpy(numpy.floor(256 * (noise + 0.5)).astype(numpy.uint8))
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        with torch.no_grad():
            described["logits"] = model(torch.from_numpy(images)).flatten().tolist()
            described["pixel_logits"] = model((pixels.float() / 255 - mean) / std).flatten().tolist()
    return described


def main():
    assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
    cases = [describe(case, run=True) for case in CASES] + [describe(case, run=False) for case in NAMES_ONLY]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
