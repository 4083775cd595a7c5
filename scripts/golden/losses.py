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


def of_outcomes(student, logits, outcome):
    """The student's log-probabilities of the outcomes of `logits`."""
    return torch.zeros_like(logits).scatter_add(1, outcome, F.softmax(student, 1)).log()


def top_k(k, temperature, loss):
    """A loss on (log-probabilities of the student, of the teacher) over the outcomes; times T²."""

    def bucketed_loss(student, teacher, labels):
        logits, outcome = bucketed(teacher, k, temperature)
        student = of_outcomes(student / temperature, logits, outcome)
        return loss(student, F.log_softmax(logits, 1)) * temperature**2

    return bucketed_loss


def soft(student, teacher):
    return -(teacher.exp() * student).sum(1).mean()


def divergence(student, teacher):
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def cross_entropy(label_smoothing=0.0):
    def loss(student, teacher, labels):
        return F.cross_entropy(student, labels, label_smoothing=label_smoothing)

    return loss


def soft_cross_entropy(temperature):
    def loss(student, teacher, labels):
        # With probabilities as targets, PyTorch computes the soft cross-entropy.
        return F.cross_entropy(student / temperature, F.softmax(teacher / temperature, 1)) * temperature**2

    return loss


def pure_kd(temperature):
    def loss(student, teacher, labels):
        student, teacher = F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
        return temperature**2 * F.kl_div(student, teacher, reduction="batchmean")

    return loss


def kd(temperature, alpha):
    return weighted_sum([(alpha, pure_kd(temperature)), (1 - alpha, cross_entropy())])


def weighted_sum(terms):
    def loss(student, teacher, labels):
        return sum(weight * term(student, teacher, labels) for weight, term in terms)

    return loss


def binary_divergence(teacher, student):
    """KL divergence of the Bernoulli distributions with these probabilities, summed over the batch."""
    teacher, student = torch.stack([teacher, 1 - teacher]), torch.stack([student, 1 - student])
    return F.kl_div(student.log(), teacher, reduction="sum")


def dkd(temperature, alpha, beta):
    """Zhao et al., CVPR 2022, equation 7."""

    def loss(student, teacher, labels):
        student, teacher = student / temperature, teacher / temperature
        is_label = F.one_hot(labels, CLASSES).bool()
        tckd = binary_divergence(F.softmax(teacher, 1)[is_label], F.softmax(student, 1)[is_label])
        student, teacher = (logits[~is_label].view(BATCH, CLASSES - 1) for logits in (student, teacher))
        nckd = F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="sum")
        return temperature**2 * (alpha * tckd + beta * nckd) / BATCH

    return loss


def dist(beta, gamma, tau):
    """Huang et al., NeurIPS 2022; the authors' code adds 1e-8 to the product of the norms, and multiplies by τ²."""

    def pearson(a, b):
        a, b = a - a.mean(), b - b.mean()
        return (a @ b) / (a.norm() * b.norm() + 1e-8)

    def loss(student, teacher, labels):
        student, teacher = F.softmax(student / tau, 1), F.softmax(teacher / tau, 1)
        inter = torch.stack([1 - pearson(student[row], teacher[row]) for row in range(BATCH)]).mean()
        intra = torch.stack([1 - pearson(student[:, c], teacher[:, c]) for c in range(CLASSES)]).mean()
        return tau**2 * (beta * inter + gamma * intra)

    return loss


def wttm(gamma):
    """Zheng and Yang, ICLR 2024: the power transform of the teacher's probabilities, weighted by its power sum."""

    def loss(student, teacher, labels):
        powers = F.softmax(teacher, 1) ** gamma
        power_sum = powers.sum(1)
        divergences = F.kl_div(F.log_softmax(student, 1), powers / power_sum[:, None], reduction="none").sum(1)
        return (power_sum * divergences).mean()

    return loss


def wttm_top_k(k, gamma):
    def loss(student, teacher, labels):
        powers, outcome = bucketed(teacher, k, 1 / gamma)
        power_sum = (powers.logsumexp(1) - gamma * teacher.logsumexp(1)).exp()
        student = of_outcomes(student, powers, outcome)
        divergences = F.kl_div(student, F.softmax(powers, 1), reduction="none").sum(1)
        return (power_sum * divergences).mean()

    return loss


def rld(temperature, confidence_temperature, alpha, beta):
    """Sun et al., ICCV 2025 (arXiv 2408.07703); sample by sample."""

    def of_sample(student, teacher, label):
        def confidences(logits):
            return F.softmax(logits / confidence_temperature, 0)

        confidence = binary_divergence(confidences(teacher).max()[None], confidences(student)[label][None])
        lower = teacher < teacher[label]
        if lower.any():
            student, teacher = student[lower] / temperature, teacher[lower] / temperature
            correlation = F.kl_div(F.log_softmax(student, 0), F.softmax(teacher, 0), reduction="sum")
        else:
            correlation = 0.0
        return alpha * confidence_temperature**2 * confidence + beta * temperature**2 * correlation

    def loss(student, teacher, labels):
        return sum(of_sample(*sample) for sample in zip(student, teacher, labels)) / BATCH

    return loss


def mse_logits(student, teacher, labels):
    return F.mse_loss(student, teacher)


def mean_over(temperatures, level):
    def loss(student, teacher, labels):
        values = [level(temperature)(student, teacher, labels) for temperature in temperatures]
        return sum(values) / len(values)

    return loss


def similarity(of_classes):
    """Batch or class level of Jin et al., CVPR 2023: the squared Frobenius norm of the difference of the Gram
    matrices, divided by the number of their rows."""

    def level(temperature):
        def loss(student, teacher, labels):
            student, teacher = F.softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
            if of_classes:
                student, teacher = student.T, teacher.T
            return ((teacher @ teacher.T - student @ student.T) ** 2).sum() / len(student)

        return loss

    return level


def standardized(loss):
    """Sun et al., CVPR 2024: `std` is the unbiased deviation, and the temperature divides afterwards."""

    def standardize(logits):
        return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)

    def standardized_loss(student, teacher, labels):
        return loss(standardize(student), standardize(teacher), labels)

    return standardized_loss


def case(name, config, loss, scale, encoding="f32", epoch=1, unlabelled=()):
    generator = torch.Generator().manual_seed(len(name))
    # Round to f32 first, so that both implementations start from the same numbers.
    student = (torch.randn(BATCH, CLASSES, generator=generator) * scale).double().requires_grad_()
    teacher = (torch.randn(BATCH, CLASSES, generator=generator) * scale).double()
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    labels[list(unlabelled)] = -100
    value = loss(student, teacher, labels)
    value.backward()
    return {
        "name": name,
        "loss": config,
        "encoding": encoding,
        "student": student.tolist(),
        "teacher": teacher.tolist(),
        "labels": labels.tolist(),
        "epoch": epoch,
        "value": value.item(),
        "gradient": student.grad.tolist(),
    }


cases = [case("cross_entropy", {"kind": "cross_entropy"}, cross_entropy(), 2.0)]
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

for smoothing in (0.1, 1.0):
    config = {"kind": "cross_entropy", "label_smoothing": smoothing}
    cases.append(case(f"cross_entropy smoothing={smoothing}", config, cross_entropy(smoothing), 2.0))
    cases.append(
        case(f"cross_entropy smoothing={smoothing}, unlabelled", config, cross_entropy(smoothing), 2.0, unlabelled=(0, 3))
    )
cases.append(case("cross_entropy, unlabelled", {"kind": "cross_entropy"}, cross_entropy(), 2.0, unlabelled=(1, 2)))

DKD = {"kind": "dkd", "temperature": 4.0}
for name, config, loss, scale in (
    ("defaults", DKD, dkd(4.0, 1.0, 8.0), 3.0),
    ("alpha=1 beta=1", DKD | {"alpha": 1.0, "beta": 1.0}, dkd(4.0, 1.0, 1.0), 3.0),
    ("alpha=0.5 T=1", DKD | {"alpha": 0.5, "beta": 2.0, "temperature": 1.0}, dkd(1.0, 0.5, 2.0), 2.0),
    ("label only", DKD | {"beta": 0.0}, dkd(4.0, 1.0, 0.0), 3.0),
    ("others only", DKD | {"alpha": 0.0}, dkd(4.0, 0.0, 8.0), 3.0),
    ("large logits", DKD, dkd(4.0, 1.0, 8.0), 40.0),
):
    cases.append(case(f"dkd, {name}", config, loss, scale))
for epoch in (1, 3, 20, 21):
    loss = weighted_sum([(min(epoch / 20, 1), dkd(4.0, 1.0, 8.0))])
    cases.append(case(f"dkd, epoch {epoch} of a warm-up", DKD | {"warm_up": 20}, loss, 3.0, epoch=epoch))
    config = [DKD | {"warm_up": 20, "weight": 0.5}, {"kind": "cross_entropy"}]
    loss = weighted_sum([(0.5, loss), (1.0, cross_entropy())])
    cases.append(case(f"dkd and cross_entropy, epoch {epoch}", config, loss, 3.0, epoch=epoch))

for name, config, loss, scale in (
    ("defaults", {}, dist(1.0, 1.0, 1.0), 2.0),
    ("tau=4", {"beta": 2.0, "gamma": 1.0, "tau": 4.0}, dist(2.0, 1.0, 4.0), 3.0),
    ("inter-class only", {"gamma": 0.0}, dist(1.0, 0.0, 1.0), 2.0),
    ("intra-class only", {"beta": 0.0}, dist(0.0, 1.0, 1.0), 2.0),
    ("nearly uniform", {}, dist(1.0, 1.0, 1.0), 0.5),
    ("large logits", {"tau": 2.0}, dist(1.0, 1.0, 2.0), 40.0),
):
    cases.append(case(f"dist, {name}", {"kind": "dist"} | config, loss, scale))

for gamma, scale in ((0.1, 3.0), (0.5, 3.0), (1.0, 2.0), (2.0, 2.0), (0.5, 40.0)):
    cases.append(case(f"wttm gamma={gamma} scale={scale}", {"kind": "wttm", "gamma": gamma}, wttm(gamma), scale))
for k in (1, 2, 3):
    for gamma in (0.25, 1.0, 2.0):
        config = {"kind": "wttm", "gamma": gamma}
        cases.append(case(f"wttm top-{k} gamma={gamma}", config, wttm_top_k(k, gamma), 3.0, f"top-{k}-f32"))

RLD = {"kind": "rld", "temperature": 4.0}
for name, config, loss, scale in (
    ("defaults", RLD, rld(4.0, 1.0, 1.0, 8.0), 2.0),
    ("other factors", RLD | {"alpha": 0.5, "beta": 2.0}, rld(4.0, 1.0, 0.5, 2.0), 2.0),
    ("confidence only", RLD | {"beta": 0.0, "confidence_temperature": 2.0}, rld(4.0, 2.0, 1.0, 0.0), 3.0),
    ("correlation only", RLD | {"alpha": 0.0, "temperature": 2.0}, rld(2.0, 1.0, 0.0, 8.0), 3.0),
    ("large logits", RLD | {"confidence_temperature": 8.0}, rld(4.0, 8.0, 1.0, 8.0), 40.0),
):
    cases.append(case(f"rld, {name}", config, loss, scale))
loss = weighted_sum([(0.25, rld(4.0, 1.0, 1.0, 8.0))])
cases.append(case("rld, epoch 2 of a warm-up", RLD | {"warm_up": 8}, loss, 2.0, epoch=2))

cases.append(case("mse_logits", {"kind": "mse_logits"}, mse_logits, 3.0))
for temperatures in ([1.0], [2.0, 3.0, 4.0, 5.0, 6.0]):
    for kind, level in (("instance", pure_kd), ("batch", similarity(False)), ("class", similarity(True))):
        config = {"kind": f"mlkd_{kind}", "temperatures": temperatures}
        cases.append(case(f"mlkd_{kind} T={temperatures}", config, mean_over(temperatures, level), 3.0))
for k in (1, 3):
    config = {"kind": "mlkd_instance", "temperatures": [1.0, 4.0]}
    loss = mean_over([1.0, 4.0], lambda temperature: top_k(k, temperature, divergence))
    cases.append(case(f"mlkd_instance top-{k}", config, loss, 3.0, f"top-{k}-f32"))

for config, loss in (
    ({"kind": "soft_cross_entropy", "temperature": 2.0}, soft_cross_entropy(2.0)),
    ({"kind": "dkd", "temperature": 2.0}, dkd(2.0, 1.0, 8.0)),
    ({"kind": "dist"}, dist(1.0, 1.0, 1.0)),
    ({"kind": "wttm", "gamma": 0.5}, wttm(0.5)),
    ({"kind": "rld", "temperature": 2.0}, rld(2.0, 1.0, 1.0, 8.0)),
    ({"kind": "mse_logits"}, mse_logits),
    ({"kind": "mlkd_instance", "temperatures": [2.0]}, pure_kd(2.0)),
    ({"kind": "mlkd_batch", "temperatures": [2.0]}, similarity(False)(2.0)),
    ({"kind": "mlkd_class", "temperatures": [2.0]}, similarity(True)(2.0)),
):
    for scale in (1.0, 20.0):
        name = f"{config['kind']}, standardized, scale={scale}"
        cases.append(case(name, config | {"standardize": True}, standardized(loss), scale))
# Only the soft term is standardized.
config = {"kind": "kd", "temperature": 2.0, "alpha": 0.9, "standardize": True}
loss = weighted_sum([(0.9, standardized(pure_kd(2.0))), (1 - 0.9, cross_entropy())])
cases.append(case("kd, standardized", config, loss, 3.0))

config = [
    {"kind": "kd", "weight": 0.9, "temperature": 4.0},
    {"kind": "cross_entropy", "weight": 0.1, "label_smoothing": 0.1},
    {"kind": "dist", "weight": 2.0},
]
loss = weighted_sum([(0.9, pure_kd(4.0)), (0.1, cross_entropy(0.1)), (2.0, dist(1.0, 1.0, 1.0))])
cases.append(case("kd, cross_entropy and dist", config, loss, 3.0))
print("[", ",\n".join(json.dumps(case) for case in cases), "]", sep="\n")
