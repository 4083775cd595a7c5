"""Values and gradients of the losses, computed by PyTorch in f64, for the trainer's tests.

Run from the repository's root with a Python that has torch 2.11:
    python scripts/golden/losses.py > student-trainer/tests/golden/losses.json
"""

import json

import torch
import torch.nn.functional as F

BATCH, CLASSES = 5, 4


def bucketed(teacher, k, temperature):
    """Unnormalized log-probabilities of the teacher at a temperature, and the outcome of each class: the
    k largest logits are outcomes 0 to k - 1, and all other classes are outcome k, the tail bucket. The
    estimate uses only log-sum-exp and mean of the bucket's logits; see crates/soft-targets/src/codec/tail_bucket.rs."""
    order = teacher.argsort(dim=1, descending=True)
    outcome = torch.full_like(order, k).scatter(1, order[:, :k], torch.arange(k).expand(len(teacher), k))
    kept, rest = teacher.gather(1, order[:, :k]), teacher.gather(1, order[:, k:])
    mass, mean, count = rest.logsumexp(1), rest.mean(1), CLASSES - k
    s = 1 / temperature
    log_count = torch.tensor(float(count)).double().log()
    estimate = log_count + s * mean + s**2 * (mass - log_count - mean)
    bucket = torch.maximum(estimate, s * mass) if temperature >= 1 else torch.minimum(estimate, s * mass)
    return torch.cat([kept * s, bucket[:, None]], 1), outcome


def top_k(k, temperature, loss):
    """A loss on (log-probabilities of the student, of the teacher) over the outcomes; times T²."""

    def bucketed_loss(student, teacher, labels):
        logits, outcome = bucketed(teacher, k, temperature)
        probabilities = F.softmax(student / temperature, 1)
        of_outcomes = torch.zeros_like(logits).scatter_add(1, outcome, probabilities)
        return loss(of_outcomes.log(), F.log_softmax(logits, 1)) * temperature**2

    return bucketed_loss


def soft(student, teacher):
    return -(teacher.exp() * student).sum(1).mean()


def divergence(student, teacher):
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def cross_entropy(student, teacher, labels):
    return F.cross_entropy(student, labels)


def soft_cross_entropy(temperature):
    def loss(student, teacher, labels):
        # With probabilities as targets, PyTorch computes the soft cross-entropy.
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


def case(name, config, loss, scale, encoding="f32"):
    generator = torch.Generator().manual_seed(len(name))
    # Round to f32 first, so that both implementations start from the same numbers.
    student = (torch.randn(BATCH, CLASSES, generator=generator) * scale).double().requires_grad_()
    teacher = (torch.randn(BATCH, CLASSES, generator=generator) * scale).double()
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    value = loss(student, teacher, labels)
    value.backward()
    return {
        "name": name,
        "loss": config,
        "encoding": encoding,
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
for k in (1, 2, 3):
    for temperature in (0.5, 1.0, 2.0, 8.0):
        config = {"kind": "soft_cross_entropy", "temperature": temperature}
        loss = top_k(k, temperature, soft)
        cases.append(case(f"soft_cross_entropy top-{k} T={temperature}", config, loss, 3.0, f"top-{k}-f32"))
    config = {"kind": "kd", "temperature": 2.0, "alpha": 1.0}
    cases.append(case(f"kd top-{k}", config, top_k(k, 2.0, divergence), 3.0, f"top-{k}-f32"))
print(json.dumps(cases, indent=1))
