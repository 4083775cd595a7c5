"""Computes moving averages of weights with PyTorch, for the trainer's tests.

The formula is that of timm's ModelEmaV2, ema = decay * ema + (1 - decay) * weights; with the warm-up of TensorFlow's
ExponentialMovingAverage, decay is at most (1 + step) / (10 + step).

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/ema.py > student-trainer/tests/golden/ema.json
"""

import json

import torch

STEPS = 14


def case(decay, warm_up):
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(4, generator=generator)
    average = weights.clone()
    initial = weights.tolist()
    history, averages = [], []
    for step in range(STEPS):
        weights = weights + 0.1 * torch.randn(4, generator=generator)
        kept = min(decay, (1 + step) / (10 + step)) if warm_up else decay
        average = kept * average + (1 - kept) * weights
        history.append(weights.tolist())
        averages.append(average.tolist())
    return {
        "ema": {"decay": decay, "warm_up": warm_up},
        "initial": initial,
        "weights": history,
        "averages": averages,
    }


print(
    json.dumps(
        [
            case(0.999, False),
            case(0.999, True),
            case(0.5, False),
            # The warm-up ends within these steps.
            case(0.5, True),
            case(0.0, False),
        ],
        indent=1,
    )
)
