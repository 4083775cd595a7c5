"""Classes that sampled soft targets draw, computed in plain Python, for the codec's tests.

Run from the repository's root with any Python 3:
    python3 scripts/golden/draws.py > crates/soft-targets/tests/golden/draws.json

The trainer derives a seed for each sample of a view, the teacher draws classes with it:
    seed  = first 64 bits of the ChaCha8 stream `sample` with the key SHA-256(purpose, view seed, 0, view)
    class = inverse of the cumulative distribution of softmax(logits / T) at the next 53 bits of the ChaCha8 stream 0
            with the key SHA-256(purpose, seed, 0, 0)
"""

import bisect
import hashlib
import itertools
import json
import math
import struct

MASK = 2**32 - 1


def chacha8(key, stream):
    """64-bit words of D. J. Bernstein's ChaCha with 8 rounds, a 64-bit block counter and the 64-bit nonce `stream`."""
    for counter in itertools.count():
        words = struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key)
        words += struct.unpack("<4I", struct.pack("<QQ", counter, stream))
        state = list(words)
        columns = [(i, i + 4, i + 8, i + 12) for i in range(4)]
        diagonals = [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]
        for a, b, c, d in 4 * (columns + diagonals):
            for x, y, z, bits in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
                state[x] = (state[x] + state[y]) & MASK
                mixed = state[z] ^ state[x]
                state[z] = (mixed << bits | mixed >> (32 - bits)) & MASK
        block = struct.pack("<16I", *((old + new) & MASK for old, new in zip(words, state)))
        yield from struct.unpack("<8Q", block)


def key(purpose, *words):
    return hashlib.sha256(purpose.encode() + struct.pack("<3Q", *words)).digest()


def draw_seed(view_seed, view, sample):
    return next(chacha8(key("fixed draw seed", view_seed, 0, view), sample))


def draw(logits, draws, temperature, seed):
    # As f32, which messages and shards hold.
    logits = [struct.unpack("<f", struct.pack("<f", logit))[0] for logit in logits]
    probabilities = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    cumulative = list(itertools.accumulate(probabilities))
    words = chacha8(key("class draw", seed, 0, 0), 0)
    drawn = []
    for _ in range(draws):
        point = (next(words) >> 11) / 2**53 * cumulative[-1]
        # Another exponential, with another last bit, must not decide.
        assert min(abs(point - bound) for bound in cumulative) > 1e-12 * cumulative[-1]
        drawn.append(bisect.bisect_right(cumulative, point))
    return sorted(drawn)


def case(encoding, draws, temperature, view_seed, view, samples, logits):
    drawn = [draw(logits, draws, temperature, draw_seed(view_seed, view, sample)) for sample in samples]
    return {
        "encoding": encoding,
        "view_seed": view_seed,
        "view": view,
        "samples": samples,
        "logits": logits,
        "drawn": drawn,
    }


def main():
    # The keystream of the key of zeros, from draft-strombergson-chacha-test-vectors-01, TC1 with 8 rounds.
    zeros = struct.pack("<2Q", *itertools.islice(chacha8(bytes(32), 0), 2))
    assert zeros.hex() == "3e00ef2f895f40d67f5bb8e81f09a5a1", zeros.hex()
    few = [2.0, -1.0, 0.5, 3.0, -3.0, 1.5]
    many = [round(5 * math.sin(7 * i), 3) for i in range(40)]
    cases = [
        case("sampled-5", 5, 1, 1, 0, [0, 1, 2, 59_999], few),
        case("sampled-20-t4", 20, 4, 1, 0, [0, 1, 7], few),
        case("sampled-20-t4", 20, 4, 1, 3, [0, 1, 7], few),
        case("sampled-50-t2", 50, 2, 20_260_101, 1, [3, 2], many),
    ]
    print("[")
    print(",\n".join("  " + json.dumps(case) for case in cases))
    print("]")


if __name__ == "__main__":
    main()
