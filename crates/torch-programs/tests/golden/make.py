"""Makes the files of these tests with PyTorch: programs, state dicts, and the logits that PyTorch computes.

The network is a small convolutional network with batch normalization and random weights. `expected.safetensors` holds
one input of 64 samples, and for the first 1, 7 and 64 samples the logits (`logits.1`, `logits.7`, `logits.64`); also
64 images (`pixels`, u8) and their logits after `(pixels / 255 - MEAN) / STD` (`pixel_logits`).

The committed files are from torch 2.11.0+cu130 on the CPU. The script needs torch and safetensors; run it in this
folder:
    python make.py
"""

import torch
from safetensors.torch import save_file
from torch import nn

BATCHES = [1, 7, 64]
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


class TwoInputs(nn.Module):
    """Two inputs, and outputs in a dictionary."""

    def forward(self, image, scale):
        scaled = image * scale
        return {"scaled": scaled, "sums": scaled.flatten(1).sum(1)}


def network() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, 10),
    )
    with torch.no_grad():
        for _ in range(20):  # gives batch normalization its statistics
            model(2 * torch.randn(32, 3, 8, 8) + 1)
    return model


def export(model: nn.Module, inputs: tuple, name: str, dynamic_shapes=None) -> None:
    program = torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, name)


torch.manual_seed(0)
model = network()
image = torch.randn(64, 3, 8, 8)
batch = torch.export.Dim("batch", min=1, max=256)

export(model, (image[:2].clone(),), "training-mode.pt2", ({0: batch},))
model.eval()
export(model, (image[:2].clone(),), "open-batch.pt2", ({0: batch},))
export(model, (image[:16].clone(),), "batch-16.pt2")
any_size = torch.export.Dim.DYNAMIC
export(TwoInputs(), (image[:2].clone(), torch.ones(2, 1, 1, 1)), "two-inputs.pt2", ({0: any_size}, {0: any_size}))
torch.jit.script(model).save("scripted.pt")
torch.jit.trace(model, image[:2].clone()).save("traced.pt")
torch.jit.script(model.train()).save("saved-in-training-mode.pt")
model.eval()
torch.save(model.state_dict(), "state-dict.pth")
torch.save(model.state_dict(), "state-dict-legacy.pth", _use_new_zipfile_serialization=False)

with torch.no_grad():
    expected = {f"logits.{count}": model(image[:count]) for count in BATCHES}
    pixels = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    expected["pixel_logits"] = model((pixels / 255 - mean) / std)
save_file({"input": image, "pixels": pixels, **expected}, "expected.safetensors")
