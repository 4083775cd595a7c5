"""Computes the learning rate of every step of a phase with PyTorch, for the trainer's tests.

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/schedules.py > student-trainer/tests/golden/schedules.json
"""

import json

import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)


def case(schedule, epochs, steps_per_epoch, learning_rate, make, by_epoch=False):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    scheduler = make(optimizer)
    learning_rates = []
    steps = epochs * steps_per_epoch
    for step in range(1, steps + 1):
        learning_rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step < steps and (not by_epoch or step % steps_per_epoch == 0):
            scheduler.step()
    return {
        "schedule": schedule,
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "learning_rates": learning_rates,
    }


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
    return case(schedule, 1, steps, maximum, make)


def cosine(steps, learning_rate, final=0.0):
    schedule = {"kind": "cosine", "learning_rate": learning_rate, "final_learning_rate": final}
    make = lambda optimizer: CosineAnnealingLR(optimizer, T_max=steps, eta_min=final)
    return case(schedule, 1, steps, learning_rate, make)


def warm_up_cosine(epochs, steps_per_epoch, warm_up_epochs, learning_rate, final=0.0, factor=0.01):
    """torchvision's reference training, with a schedule that counts steps."""
    schedule = {
        "kind": "cosine",
        "learning_rate": learning_rate,
        "final_learning_rate": final,
        "warm_up_epochs": warm_up_epochs,
        "warm_up_factor": factor,
    }
    steps = epochs * steps_per_epoch
    warm_up = round(warm_up_epochs * steps_per_epoch)

    def make(optimizer):
        rise = LinearLR(optimizer, start_factor=factor, total_iters=warm_up)
        fall = CosineAnnealingLR(optimizer, T_max=steps - warm_up, eta_min=final)
        return SequentialLR(optimizer, [rise, fall], milestones=[warm_up])

    return case(schedule, epochs, steps_per_epoch, learning_rate, make)


def step(epochs, steps_per_epoch, learning_rate, step_size, gamma=0.1):
    return decay("step", StepLR, epochs, steps_per_epoch, learning_rate, gamma, step_size=step_size)


def multi_step(epochs, steps_per_epoch, learning_rate, milestones, gamma=0.1):
    return decay("multi_step", MultiStepLR, epochs, steps_per_epoch, learning_rate, gamma, milestones=milestones)


def decay(kind, scheduler, epochs, steps_per_epoch, learning_rate, gamma, **when):
    """Multiplies by gamma at the end of some epochs."""
    schedule = {"kind": kind, "learning_rate": learning_rate, **when, "gamma": gamma}
    make = lambda optimizer: scheduler(optimizer, gamma=gamma, **when)
    return case(schedule, epochs, steps_per_epoch, learning_rate, make, by_epoch=True)


def constant(steps, learning_rate):
    schedule = {"kind": "constant", "learning_rate": learning_rate}
    make = lambda optimizer: ConstantLR(optimizer, factor=1.0)
    return case(schedule, 1, steps, learning_rate, make)


print(
    json.dumps(
        [
            one_cycle(100, 0.2),
            one_cycle(47, 0.05, warm_up=0.1, initial_divisor=10.0, final_divisor=100.0),
            one_cycle(10, 1.0, warm_up=0.5),
            cosine(50, 0.1),
            cosine(33, 0.2, final=0.01),
            constant(12, 0.01),
            warm_up_cosine(5, 7, 1.0, 0.1),
            warm_up_cosine(4, 10, 2.0, 0.2, final=0.01, factor=0.5),
            warm_up_cosine(3, 10, 0.5, 0.2, factor=1.0),
            warm_up_cosine(2, 25, 1.5, 0.3),
            step(7, 3, 0.1, 2),
            step(5, 3, 0.4, 1, gamma=0.5),
            step(3, 4, 0.1, 9),
            multi_step(9, 3, 0.1, [3, 6, 8]),
            multi_step(6, 2, 0.2, [1, 5], gamma=0.3),
            multi_step(3, 4, 0.2, []),
        ],
        indent=1,
    )
)
