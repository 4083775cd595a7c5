"""Confidences and divergences of logits, and calibration errors of confidences, for the tests of evaluations and reports.

Needs Python alone: the formulas of the definitions, with 50 digits or as fractions. Run from the repository's root:
    python scripts/golden/evaluation.py logits > student-trainer/tests/golden/evaluation.json
    python scripts/golden/evaluation.py calibration > cli/tests/golden/calibration.json
"""

import decimal
import fractions
import json
import random
import sys

decimal.getcontext().prec = 50
SAMPLES, CLASSES, BINS = 12, 5, 15


def softmax(logits):
    powers = [decimal.Decimal(logit).exp() for logit in logits]
    return [power / sum(powers) for power in powers]


def divergence(teacher, model):
    """KL(teacher ‖ model) = Σ p ln(p / q), in nats."""
    pairs = zip(softmax(teacher), softmax(model))
    return sum(p * (p / q).ln() for p, q in pairs)


def logits(draw):
    """Multiples of 1/8, which f32 holds exactly; some far apart, and samples for which both agree."""

    def row(scale):
        return [draw.randrange(-8 * scale, 8 * scale + 1) / 8 for _ in range(CLASSES)]

    teacher = [row(scale) for scale in [1, 4, 20] * (SAMPLES // 3)]
    student = [list(logits) if sample % 6 == 5 else row(4) for sample, logits in enumerate(teacher)]
    return {
        "classes": CLASSES,
        "teacher": teacher,
        "student": student,
        "predictions": [row.index(max(row)) for row in student],
        "confidences": [float(max(softmax(row))) for row in student],
        "divergences": [float(divergence(*pair)) for pair in zip(teacher, student)],
    }


def calibration(draw):
    """Equation 3 of Guo et al. 2017: Σ |B_m| / n |acc(B_m) − conf(B_m)|, where B_m has the confidences in
    ((m − 1) / M, m / M]."""
    cases = []
    for samples in [1, 30, 200]:
        # Thousandths, and the limits of bins.
        confidences = [f"{draw.randrange(1, 1001) / 1000:.3f}" for _ in range(samples)]
        confidences[: samples // 10] = [draw.choice(["0.2", "0.4", "0.6", "0.8", "1.0"]) for _ in range(samples // 10)]
        correct = [draw.random() < float(confidence) ** 2 for confidence in confidences]
        exact = [fractions.Fraction(confidence) for confidence in confidences]
        error = fractions.Fraction(0)
        for m in range(1, BINS + 1):
            low, high = fractions.Fraction(m - 1, BINS), fractions.Fraction(m, BINS)
            members = [sample for sample in range(samples) if low < exact[sample] <= high]
            if members:
                accuracy = fractions.Fraction(sum(correct[sample] for sample in members), len(members))
                confidence = sum(exact[sample] for sample in members) / len(members)
                error += fractions.Fraction(len(members), samples) * abs(accuracy - confidence)
        cases.append(
            {
                "confidences": [float(confidence) for confidence in confidences],
                "correct": correct,
                "error": float(error),
            }
        )
    return cases


made = {"logits": logits, "calibration": calibration}[sys.argv[1]]
print(json.dumps(made(random.Random(1)), indent=1))
