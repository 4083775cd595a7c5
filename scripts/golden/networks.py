"""Computes the golden values of torch-networks with PyTorch.

Reads crates/torch-networks/tests/golden/network.toml, builds the same network from torch.nn modules, and
writes network.safetensors beside it: weights, inputs, labels, and under `expected.` the logits in
evaluation, the logits in training, the gradients of the cross-entropy, and the running statistics
after that training step.

The committed values are from torch 2.11.0. The script needs torch and safetensors; run it from the
repository's root:
    python scripts/golden/networks.py
"""

import tomllib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

FOLDER = Path("crates/torch-networks/tests/golden")


class Residual(nn.Module):
    """relu(body(x) + shortcut(x))"""

    def __init__(self, body: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def window(layer: dict, stride: int) -> dict:
    return {"stride": layer.get("stride", stride), "padding": layer.get("padding", 0)}


def module(layer: dict, shape: torch.Size) -> nn.Module:
    """The module for one layer of a spec whose input has this shape."""
    channels = shape[1]
    kernel = layer.get("kernel", 1)
    match layer["type"]:
        case "conv" | "depthwise_conv":
            depthwise = layer["type"] == "depthwise_conv"
            return nn.Conv2d(
                channels,
                channels if depthwise else layer["channels"],
                kernel,
                stride=layer.get("stride", 1),
                padding=layer.get("padding", (kernel - 1) // 2),
                groups=channels if depthwise else 1,
                bias=layer.get("bias", False),
            )
        case "batch_norm":
            return nn.BatchNorm2d(channels) if len(shape) == 4 else nn.BatchNorm1d(channels)
        case "relu":
            return nn.ReLU()
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
        case "residual":
            body, out = sequence(layer["body"], shape)
            if out == shape:
                return Residual(body, nn.Sequential())
            stride = shape[2] // out[2]
            projection = nn.Conv2d(channels, out[1], 1, stride=stride, bias=False)
            return Residual(body, nn.Sequential(projection, nn.BatchNorm2d(out[1])))
        case other:
            raise ValueError(other)


def sequence(layers: list[dict], shape: torch.Size) -> tuple[nn.Sequential, torch.Size]:
    modules = []
    for layer in layers:
        modules.append(module(layer, shape))
        shape = modules[-1](torch.zeros(shape)).shape
    return nn.Sequential(*modules), shape


def main():
    assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
    torch.manual_seed(20)
    spec = tomllib.loads((FOLDER / "network.toml").read_text())
    samples = 8
    network, _ = sequence(spec["layers"], torch.Size([samples, *spec["input"]]))
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith("running_mean") or tensor.dim() == 1:
            tensor.normal_(0.2, 0.5)

    values = {"input": torch.randn(samples, *spec["input"]), "labels": torch.arange(samples).float() % spec["classes"]}
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            values[f"layers.{name}"] = tensor.clone()

    network.eval()
    values["expected.evaluate"] = network(values["input"]).detach()
    network.train()
    logits = network(values["input"])
    nn.functional.cross_entropy(logits, values["labels"].long()).backward()
    values["expected.train"] = logits.detach()
    for name, parameter in network.named_parameters():
        values[f"expected.gradient.layers.{name}"] = parameter.grad
    for name, tensor in network.named_buffers():
        if not name.endswith("num_batches_tracked"):
            values[f"expected.layers.{name}"] = tensor
    save_file(values, FOLDER / "network.safetensors", metadata={"torch": torch.__version__})


if __name__ == "__main__":
    main()
