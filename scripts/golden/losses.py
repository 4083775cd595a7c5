"""Values and gradients of the losses, computed by PyTorch in f64, for the trainer's tests.

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/losses.py > student-trainer/tests/golden/losses.json
"""

import json

import torch
import torch.nn.functional as F

BATCH, CLASSES = 5, 4


def cross_entropy(student, teacher, labels):
    return F.cross_entropy(student, labels)


def soft_cross_entropy(temperature):
    def loss(student, teacher, labels):
        # With probabilities as targets, PyTorch's cross-entropy is the soft one.
        return F.cross_entropy(student / temperature, F.softmax(teacher / temperature, 1)) * temperature**2

    return loss


def kd(temperature, alpha):
    def loss(student, teacher, labels):
        soft = F.kl_div(
            F.log_softmax(student / temperature, 1),
            F.softmax(teacher / temperature, 1),
            reduction="batchmean",
        )
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student, labels)

    return loss


def case(name, config, loss, scale):
    generator = torch.Generator().manual_seed(len(name))
    # Rounded to f32 first, so that both sides start from the same numbers.
    student = (torch.randn(BATCH, CLASSES, generator=generator) * scale).double().requires_grad_()
    teacher = (torch.randn(BATCH, CLASSES, generator=generator) * scale).double()
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    value = loss(student, teacher, labels)
    value.backward()
    return {
        "name": name,
        "loss": config,
        "student": student.tolist(),
        "teacher": teacher.tolist(),
        "labels": labels.tolist(),
        "value": value.item(),
        "gradient": student.grad.tolist(),
    }


cases = [case("cross_entropy", {"kind": "cross_entropy"}, cross_entropy, 2.0)]
for temperature in (1.0, 2.0, 8.0):
    config = {"kind": "soft_cross_entropy", "temperature": temperature}
    cases.append(case(f"soft_cross_entropy T={temperature}", config, soft_cross_entropy(temperature), 3.0))
for temperature, alpha in ((1.0, 0.5), (4.0, 0.9), (2.0, 0.0), (2.0, 1.0)):
    config = {"kind": "kd", "temperature": temperature, "alpha": alpha}
    cases.append(case(f"kd T={temperature} alpha={alpha}", config, kd(temperature, alpha), 3.0))
cases.append(case("kd, large logits", {"kind": "kd", "temperature": 2.0, "alpha": 0.9}, kd(2.0, 0.9), 40.0))
print(json.dumps(cases, indent=1))
