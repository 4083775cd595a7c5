"""Computes parameters after each of several optimizer steps with PyTorch, for the trainer's tests.

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/optimizers.py > student-trainer/tests/golden/optimizers.json
"""

import json

import torch

STEPS = 12
# A weight, a bias, and the scalar-like scale of one channel.
SHAPES = ((2, 3), (5,), (1,))


def case(kind, optimizer_class, decay, options, fixed):
    generator = torch.Generator().manual_seed(7)
    draw = lambda: [torch.randn(shape, generator=generator) for shape in SHAPES]
    flat = lambda tensors: [tensor.flatten().tolist() for tensor in tensors]
    parameters = [tensor.requires_grad_() for tensor in draw()]
    initial = flat(parameters)
    if decay == "all":
        groups = parameters
    else:
        weights = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    optimizer = optimizer_class(groups, lr=0.1, **options, **fixed)
    learning_rates, gradients, after = [], [], []
    for step in range(STEPS):
        # The rate changes between steps, as with a schedule.
        learning_rate = 0.1 / (step + 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        for parameter, gradient in zip(parameters, draw()):
            parameter.grad = gradient
        gradients.append(flat(parameter.grad for parameter in parameters))
        optimizer.step()
        learning_rates.append(learning_rate)
        after.append(flat(parameters))
    return {
        "optimizer": {"kind": kind, **options, "decay": decay},
        "shapes": SHAPES,
        "learning_rates": learning_rates,
        "initial": initial,
        "gradients": gradients,
        "parameters": after,
    }


def sgd(decay="all", **options):
    return case("sgd", torch.optim.SGD, decay, options, {"dampening": 0})


def adamw(decay, **options):
    return case("adamw", torch.optim.AdamW, decay, options, {"amsgrad": False})


print(
    json.dumps(
        [
            sgd(momentum=0.0, nesterov=False, weight_decay=0.0),
            sgd(momentum=0.0, nesterov=False, weight_decay=0.01),
            sgd(momentum=0.9, nesterov=False, weight_decay=0.0),
            sgd(momentum=0.9, nesterov=False, weight_decay=0.01),
            sgd(momentum=0.9, nesterov=True, weight_decay=0.0),
            sgd(momentum=0.9, nesterov=True, weight_decay=5e-4),
            sgd("weights", momentum=0.0, nesterov=False, weight_decay=0.1),
            sgd("weights", momentum=0.9, nesterov=True, weight_decay=0.1),
            adamw("all"),
            adamw("weights"),
            adamw("all", weight_decay=0.0),
            adamw("all", betas=(0.8, 0.99), eps=1e-3, weight_decay=0.1),
            adamw("weights", betas=(0.0, 0.5), eps=1e-6, weight_decay=0.5),
        ],
        indent=1,
    )
)
