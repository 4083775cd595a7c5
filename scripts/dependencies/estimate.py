"""Estimates how long build and demo take on this machine."""

import os
from pathlib import Path

# Minutes on two cores with AVX512_BF16: the build measured on an Intel Xeon (docs/benchmarks-history.md), the demo on
# an AMD EPYC (docs/results.md).
MEASURED_CORES = 2
BUILD_MINUTES = 13
DEMO_MINUTES = 8
# Training in f32 takes about this factor longer than in bf16.
WITHOUT_BF16 = 1.9
# The build does not get faster with more cores than this, the demo not with more than it uses.
BUILD_CORES = 8
DEMO_CORES = 2


def describe() -> str:
    """One line about this machine."""
    cores = len(os.sched_getaffinity(0))
    bf16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    build = BUILD_MINUTES * MEASURED_CORES / min(cores, BUILD_CORES)
    demo = DEMO_MINUTES * MEASURED_CORES / min(cores, DEMO_CORES) * (1 if bf16 else WITHOUT_BF16)
    return (
        f"Ready. This machine: {cores} core{'s' if cores > 1 else ''}, AVX512_BF16 {'yes' if bf16 else 'no'}. "
        f"Estimates: first build about {minutes(build)}, demo about {minutes(demo)}."
    )


def minutes(value) -> str:
    """Rounds to whole minutes, at least 1."""
    return f"{max(1, round(value))} min"
