"""Computes the golden values of torch-networks with PyTorch.

Reads network.toml and mobile.toml in crates/torch-networks/tests/golden, builds the same networks from
torch.nn modules (torch_modules.py), and writes a .safetensors file beside each: weights, inputs, labels, and
under `expected.` the logits in evaluation, the logits in training, the gradients of the cross-entropy, and the
running statistics after that training step.

The committed values are from torch 2.11.0. The script needs torch and safetensors; run it from the
repository's root:
    python scripts/golden/networks.py
"""

import tomllib
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from torch_modules import sequence

FOLDER = Path("crates/torch-networks/tests/golden")


def write(name: str, seed: int):
    torch.manual_seed(seed)
    spec = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    samples = 8
    network, _ = sequence(spec["layers"], torch.Size([samples, *spec["input"]]))
    for key, tensor in network.state_dict().items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif key.endswith("running_mean") or tensor.dim() == 1:
            tensor.normal_(0.2, 0.5)

    values = {"input": torch.randn(samples, *spec["input"]), "labels": torch.arange(samples).float() % spec["classes"]}
    for key, tensor in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            values[f"layers.{key}"] = tensor.clone()

    network.eval()
    values["expected.evaluate"] = network(values["input"]).detach()
    network.train()
    logits = network(values["input"])
    nn.functional.cross_entropy(logits, values["labels"].long()).backward()
    values["expected.train"] = logits.detach()
    for key, parameter in network.named_parameters():
        values[f"expected.gradient.layers.{key}"] = parameter.grad
    for key, tensor in network.named_buffers():
        if not key.endswith("num_batches_tracked"):
            values[f"expected.layers.{key}"] = tensor
    save_file(values, FOLDER / f"{name}.safetensors", metadata={"torch": torch.__version__})


def main():
    assert torch.__version__.split("+")[0] == "2.11.0", torch.__version__
    write("network", seed=20)
    write("mobile", seed=21)


if __name__ == "__main__":
    main()
