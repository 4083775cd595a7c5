"""Builds torch.nn modules from the layers of a network spec (docs/networks.md).

The tensors of the modules have the names and shapes of crates/torch-networks.
"""

import torch
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}


class Residual(nn.Module):
    """activation(body(x) + shortcut(x))"""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module):
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x):
        return self.activation(self.body(x) + self.shortcut(x))


class SqueezeExcitation(nn.Module):
    """x · gate(x)"""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            activation,
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.gate(x)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding (tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2)."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(reversed(x.shape[2:]), self.kernel_size, self.stride):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(x, pads))


def window(layer: dict, stride: int) -> dict:
    return {"stride": layer.get("stride", stride), "padding": layer.get("padding", 0)}


def module(layer: dict, shape: torch.Size) -> nn.Module:
    """The module for one layer of a spec whose input has this shape."""
    channels = shape[1]
    kernel = layer.get("kernel", 1)
    match layer["type"]:
        case "conv" | "depthwise_conv":
            depthwise = layer["type"] == "depthwise_conv"
            padding = layer.get("padding", (kernel - 1) // 2)
            return (SameConv2d if padding == "same" else nn.Conv2d)(
                channels,
                channels if depthwise else layer["channels"],
                kernel,
                stride=layer.get("stride", 1),
                padding=0 if padding == "same" else padding,
                groups=channels if depthwise else layer.get("groups", 1),
                bias=layer.get("bias", False),
            )
        case "batch_norm":
            norm = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
            return norm(channels, eps=layer.get("epsilon", 1e-5))
        case "relu" | "relu6" | "silu" | "hard_swish" | "sigmoid":
            return ACTIVATIONS[layer["type"]]()
        case "squeeze_excitation":
            return SqueezeExcitation(channels, layer["channels"], ACTIVATIONS[layer.get("activation", "relu")]())
        case "max_pool":
            return nn.MaxPool2d(kernel, **window(layer, kernel))
        case "avg_pool":
            return nn.AvgPool2d(kernel, **window(layer, kernel))
        case "global_avg_pool":
            return nn.AdaptiveAvgPool2d(1)
        case "flatten":
            return nn.Flatten()
        case "linear":
            return nn.Linear(channels, layer["features"], bias=layer.get("bias", True))
        case "dropout":
            return nn.Dropout(layer["rate"])
        case "residual":
            body, out = sequence(layer["body"], shape)
            activation = ACTIVATIONS[layer.get("activation", "relu")]()
            if layer.get("shortcut", "identity" if out == shape else "projection") == "identity":
                return Residual(body, nn.Sequential(), activation)
            # Rounded up: with stride 2, 7 rows become 4.
            stride = -(-shape[2] // out[2])
            projection = nn.Conv2d(channels, out[1], 1, stride=stride, bias=False)
            return Residual(body, nn.Sequential(projection, nn.BatchNorm2d(out[1])), activation)
        case other:
            raise ValueError(other)


def sequence(layers: list[dict], shape: torch.Size) -> tuple[nn.Sequential, torch.Size]:
    modules = []
    for layer in layers:
        modules.append(module(layer, shape))
        shape = modules[-1](torch.zeros(shape)).shape
    return nn.Sequential(*modules), shape
