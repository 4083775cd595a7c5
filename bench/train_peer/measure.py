"""Measures PyTorch's training; bench/train-peer starts it with a job. Prints one JSON object."""

import contextlib
import json
import sys
import time
import warnings
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch_modules import sequence

from train_peer.batches import Batches

CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
VARIANTS = {
    "f32": (torch.float32, CONTIGUOUS),
    "f32 channels-last": (torch.float32, CHANNELS_LAST),
    "bf16": (torch.bfloat16, CONTIGUOUS),
    "bf16 channels-last": (torch.bfloat16, CHANNELS_LAST),
}


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    variants = {name: variant for name, variant in VARIANTS.items() if job["bf16"] or variant[0] != torch.bfloat16}
    speeds = {name: measure(job, *variant) for name, variant in variants.items()}
    compiled, compile_error = None, None
    if job["compile"]:
        try:
            fastest = max(speeds, key=speeds.get)
            compiled = measure(job, *VARIANTS[fastest], torch.compile)
        except Exception as error:  # The compiler fails in many ways, and the other figures stay valid.
            compile_error = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    result = {
        "torch": torch.__version__,
        "parameters": sum(parameter.numel() for parameter in build(job["network"]).parameters()),
        "samples_per_second": speeds,
        "compiled": compiled,
        "compile_error": compile_error,
    }
    print(json.dumps(result))


def build(spec):
    """The network of a spec whose preset is expanded to layers."""
    # Two samples, because the modules are in training mode, where batch-norm needs several values.
    network, _ = sequence(spec["layers"], torch.Size([2, *spec["input"]]))
    return network


def measure(job, dtype, memory_format, transform=lambda network: network):
    """Samples per second of whole steps: batch, forward pass, loss, backward pass, optimizer."""
    network = build(job["network"]).to(memory_format=memory_format)
    optimizer = make_optimizer(network, job)
    batches = iter(Batches(job, memory_format))
    forward = transform(network)
    autocast = torch.autocast("cpu", dtype) if dtype != torch.float32 else contextlib.nullcontext()

    def train(steps):
        samples = 0
        for _ in range(steps):
            images, labels = next(batches)
            with autocast:
                loss = cross_entropy(forward(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            samples += len(labels)
        assert loss.isfinite(), "the loss is not finite"
        return samples

    train(job["warm_up_steps"])
    start = time.perf_counter()
    samples = train(job["steps"])
    return samples / (time.perf_counter() - start)


def make_optimizer(network, job):
    """SGD in one fused operation over all parameters, the fastest that PyTorch has."""
    options, schedule = dict(job["optimizer"]), job["schedule"]
    assert (options.pop("kind"), schedule["kind"]) == ("sgd", "constant")
    return torch.optim.SGD(network.parameters(), schedule["learning_rate"], **options, fused=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # autocast lists what it does not cast
    main()
