"""Clips gradients by their global norm with PyTorch, for the trainer's tests.

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/gradients.py > student-trainer/tests/golden/gradients.json
"""

import json

import torch

LENGTHS = (3, 5, 1)


def case(generator, scale, max_norm):
    parameters = [torch.zeros(length, requires_grad=True) for length in LENGTHS]
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    gradients = [parameter.grad.tolist() for parameter in parameters]
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return {
        "max_norm": max_norm,
        "gradients": gradients,
        "norm": norm.item(),
        "clipped": [parameter.grad.tolist() for parameter in parameters],
    }


generator = torch.Generator().manual_seed(7)
scales = (1e-4, 0.1, 0.3, 1.0, 3.0, 1e4)
print(
    json.dumps(
        [case(generator, scale, norm) for scale in scales for norm in (0.5, 1.0)],
        indent=1,
    )
)
