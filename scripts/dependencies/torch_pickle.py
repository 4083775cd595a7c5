"""Converts state dictionaries that torch.save wrote before PyTorch 1.6 to safetensors, without PyTorch.

Such a file is a sequence of pickles (a magic number, a protocol version, facts about the machine, the
dictionary, the keys of its storages) and then each storage: its length as an i64 and its values.
"""

import collections
import itertools
import json
import pickle
import struct

from .part import SetupError

MAGIC = 0x1950A86A20F9469CFC6C
# Bytes per value of the storages that a state dictionary holds.
SIZES = {"FloatStorage": 4, "LongStorage": 8}


class Tensor(collections.namedtuple("Tensor", ["storage", "key", "offset", "shape", "stride"])):
    """Part of a storage; offset and strides count values."""

    def to_bytes(self, storage):
        """The values in row-major order."""
        values = memoryview(storage).cast("f")
        *outer, last = [range(0, size * step, step) for size, step in zip(self.shape, self.stride)] or [range(1)]
        rows = bytearray()
        for position in itertools.product(*outer):
            start = self.offset + sum(position)
            rows += values[start : start + last.stop : last.step].tobytes()
        return bytes(rows)


class Unpickler(pickle.Unpickler):
    """Reads what a state dictionary consists of, and refuses everything else: a pickle can run any code."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return tensor
        if module == "torch" and name in SIZES:
            return name
        raise SetupError(f"the weights name {module}.{name}, which a state dictionary does not contain")

    def persistent_load(self, stored):
        kind, storage, key, _device, _length, _view = stored
        if kind != "storage":
            raise SetupError(f"the weights contain an object of kind {kind}")
        return storage, key


def tensor(stored, offset, shape, stride, _requires_grad, _hooks):
    """Takes the place of torch._utils._rebuild_tensor_v2."""
    return Tensor(*stored, offset, list(shape), list(stride))


def read(path) -> dict:
    """The f32 tensors of a state dictionary: {name: (shape, little-endian bytes)}."""
    with open(path, "rb") as file:
        if Unpickler(file).load() != MAGIC:
            raise SetupError(f"{path.name} is not a file of torch.save before PyTorch 1.6")
        for _ in ["protocol version", "machine"]:
            Unpickler(file).load()
        tensors = Unpickler(file).load()
        keys = Unpickler(file).load()
        sizes = {tensor.key: SIZES[tensor.storage] for tensor in tensors.values()}
        storages = {}
        for key in keys:
            (length,) = struct.unpack("<q", file.read(8))
            storages[key] = file.read(length * sizes[key])
    # The other tensors count batch-norm's training steps.
    floats = {name: tensor for name, tensor in tensors.items() if tensor.storage == "FloatStorage"}
    return {name: (tensor.shape, tensor.to_bytes(storages[tensor.key])) for name, tensor in floats.items()}


def write_safetensors(tensors, path):
    """Writes f32 tensors (https://github.com/huggingface/safetensors#format), sorted by name."""
    header, position = {}, 0
    for name, (shape, data) in sorted(tensors.items()):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + len(data)]}
        position += len(data)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, (_, data) in sorted(tensors.items()):
            file.write(data)
