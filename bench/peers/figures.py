"""The figures of a network: ratios within each turn, then their median, minimum and maximum."""

import statistics

RETORT = "retort"
MANY = 64
UNITS = ["throughput", "p50_us", "p99_us"]
# Aims for Retort's figure divided by the better peer's.
AIMS = {
    "resnet8": {"throughput_ratio": "≥ 2.5", "call_cost_ratio": "≤ 1/6", "p99_ratio": "≤ 1/3"},
    "demo-student": {"throughput_ratio": "≥ 7", "call_cost_ratio": "≤ 1/6", "p99_ratio": "≤ 1/7"},
}
# (a server's figure in a turn, function that selects the better peer's figure)
RATIOS = {
    "throughput_ratio": (lambda turn, server: turn["servers"][server][MANY]["throughput"], max),
    "call_cost_ratio": (lambda turn, server: call_cost(turn, server), min),
    "p99_ratio": (lambda turn, server: turn["servers"][server][MANY]["p99_us"], min),
}


def call_cost(turn, server):
    """Time of a call of 64 callers beyond ONNX Runtime's best time per sample, in microseconds."""
    return 1e6 / turn["servers"][server][MANY]["throughput"] - turn["raw_us"]


def breakdown(turn):
    """The parts of the time of Retort's call at 64 callers, in microseconds: first by wall-clock time of the core (the
    total and its parts), then by processor time. The names are those of `retort-bench serve`."""
    service, echo, inference = turn["servers"][RETORT][MANY], turn["echo"][MANY], turn["raw_us"]
    call_us, echo_us = (1e6 / server["throughput"] for server in [service, echo])
    return {
        "call_us": call_us,
        "inference_us": inference,
        "echo_us": echo_us,
        "rest_us": call_us - inference - echo_us,
        "cpu_us": service["cpu_us"],
        "echo_cpu_us": echo["cpu_us"],
        "rest_cpu_us": service["cpu_us"] - inference - echo["cpu_us"],
    }


def summary(turns):
    """Summarizes turns: {"raw_us": number, "servers": {name: {callers: {"throughput": number, "p50_us": ..., "p99_us":
    ...}}}, "echo": the same for a bare gRPC server, without a name}. Retort and the bare server also have "cpu_us"."""
    first = turns[0]["servers"]
    peers = [name for name in first if name != RETORT]
    parts = [breakdown(turn) for turn in turns]
    return {
        **{ratio: series(over(turn, ratio, peers) for turn in turns) for ratio in RATIOS},
        "versus": {
            peer: {ratio: series(over(turn, ratio, [peer]) for turn in turns) for ratio in RATIOS} for peer in peers
        },
        "raw_us_per_sample": series(turn["raw_us"] for turn in turns),
        "breakdown": {name: series(part[name] for part in parts) for name in parts[0]},
        "servers": {
            server: {
                "call_cost_us": series(call_cost(turn, server) for turn in turns),
                "callers": {
                    callers: {unit: series(turn["servers"][server][callers][unit] for turn in turns) for unit in UNITS}
                    for callers in first[server]
                },
            }
            for server in first
        },
    }


def over(turn, ratio, peers):
    """Retort's figure divided by the better one of `peers`."""
    figure, better = RATIOS[ratio]
    return figure(turn, RETORT) / better(figure(turn, peer) for peer in peers)


def series(values):
    values = sorted(values)
    return {"median": statistics.median(values), "minimum": values[0], "maximum": values[-1]}


def table(network, found):
    """Yields the lines of a network."""
    yield f"{network}: median (minimum to maximum)"
    for ratio in RATIOS:
        yield f"  {ratio:16}  {text(found[ratio], 3)}, aim {AIMS[network][ratio]}"
    for peer, ratios in found["versus"].items():
        yield f"  over {peer}: " + ", ".join(f"{ratio} {text(ratios[ratio], 3)}" for ratio in RATIOS)
    yield f"  ONNX Runtime itself: {text(found['raw_us_per_sample'], 1)} µs per sample"
    for server, figures in found["servers"].items():
        yield f"  {server}: cost of a call {text(figures['call_cost_us'], 1)} µs"
        if server == RETORT:
            part = {name: text(part, 1) for name, part in found["breakdown"].items()}
            yield f"    one call of 64 callers {part['call_us']} µs; processor time {part['cpu_us']}"
            yield f"      inference {part['inference_us']} µs"
            yield f"      bare gRPC call {part['echo_us']} µs; processor time {part['echo_cpu_us']}"
            yield f"      the rest {part['rest_us']} µs; processor time {part['rest_cpu_us']}"
        for callers, speed in figures["callers"].items():
            throughput, p50, p99 = (text(speed[unit], 0) for unit in UNITS)
            yield f"    {callers:>2} callers: {throughput} calls/s, p50 {p50} µs, p99 {p99} µs"


def text(found, digits):
    median, minimum, maximum = (f"{found[key]:.{digits}f}" for key in ["median", "minimum", "maximum"])
    return f"{median} ({minimum} to {maximum})"
