"""Computes the learning rate of every step of a phase with PyTorch, for the trainer's tests.

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/schedules.py > student-trainer/tests/golden/schedules.json
"""

import json

import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, OneCycleLR


def case(schedule, steps, learning_rate, make):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    scheduler = make(optimizer)
    learning_rates = []
    for _ in range(steps):
        learning_rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if len(learning_rates) < steps:
            scheduler.step()
    return {"schedule": schedule, "steps": steps, "learning_rates": learning_rates}


def one_cycle(steps, maximum, warm_up=0.3, initial_divisor=25.0, final_divisor=1e4):
    schedule = {
        "kind": "one_cycle",
        "max_learning_rate": maximum,
        "warm_up": warm_up,
        "initial_divisor": initial_divisor,
        "final_divisor": final_divisor,
    }
    make = lambda optimizer: OneCycleLR(
        optimizer,
        max_lr=maximum,
        total_steps=steps,
        pct_start=warm_up,
        anneal_strategy="cos",
        cycle_momentum=False,
        div_factor=initial_divisor,
        final_div_factor=final_divisor,
    )
    return case(schedule, steps, maximum, make)


def cosine(steps, learning_rate, final=0.0):
    schedule = {"kind": "cosine", "learning_rate": learning_rate, "final_learning_rate": final}
    make = lambda optimizer: CosineAnnealingLR(optimizer, T_max=steps, eta_min=final)
    return case(schedule, steps, learning_rate, make)


def constant(steps, learning_rate):
    schedule = {"kind": "constant", "learning_rate": learning_rate}
    make = lambda optimizer: ConstantLR(optimizer, factor=1.0)
    return case(schedule, steps, learning_rate, make)


print(
    json.dumps(
        [
            one_cycle(100, 0.2),
            one_cycle(47, 0.05, warm_up=0.1, initial_divisor=10.0, final_divisor=100.0),
            one_cycle(10, 1.0, warm_up=0.5),
            cosine(50, 0.1),
            cosine(33, 0.2, final=0.01),
            constant(5, 0.01),
        ],
        indent=1,
    )
)
