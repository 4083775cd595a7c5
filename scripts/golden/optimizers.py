"""Computes parameters after each of several optimizer steps with PyTorch, for the trainer's tests.

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/optimizers.py > student-trainer/tests/golden/optimizers.json
"""

import json

import torch

STEPS = 7
LENGTHS = (3, 5)


def case(**options):
    generator = torch.Generator().manual_seed(7)
    draw = lambda: [torch.randn(length, generator=generator) for length in LENGTHS]
    parameters = [tensor.requires_grad_() for tensor in draw()]
    initial = [tensor.tolist() for tensor in parameters]
    optimizer = torch.optim.SGD(parameters, lr=0.1, dampening=0, **options)
    learning_rates, gradients, after = [], [], []
    for step in range(STEPS):
        # The rate changes between steps, as with a schedule.
        learning_rate = 0.1 / (step + 1)
        optimizer.param_groups[0]["lr"] = learning_rate
        for parameter, gradient in zip(parameters, draw()):
            parameter.grad = gradient
        gradients.append([parameter.grad.tolist() for parameter in parameters])
        optimizer.step()
        learning_rates.append(learning_rate)
        after.append([parameter.tolist() for parameter in parameters])
    return {
        "optimizer": {"kind": "sgd", **options},
        "learning_rates": learning_rates,
        "initial": initial,
        "gradients": gradients,
        "parameters": after,
    }


print(
    json.dumps(
        [
            case(momentum=0.0, nesterov=False, weight_decay=0.0),
            case(momentum=0.0, nesterov=False, weight_decay=0.01),
            case(momentum=0.9, nesterov=False, weight_decay=0.0),
            case(momentum=0.9, nesterov=False, weight_decay=0.01),
            case(momentum=0.9, nesterov=True, weight_decay=0.0),
            case(momentum=0.9, nesterov=True, weight_decay=5e-4),
        ],
        indent=1,
    )
)
