"""Prints the shard that is the argument as JSON; reads it with the package safetensors (and its NumPy) alone."""

import json
import sys

from safetensors import safe_open

with safe_open(sys.argv[1], framework="numpy") as shard:
    read = {name: shard.get_tensor(name).astype("float32").ravel().tolist() for name in shard.keys()}
    if "kept_classes" in read:
        read["kept_classes"] = [int(kept) for kept in read["kept_classes"]]
    print(json.dumps({"metadata": shard.metadata(), **read}))
