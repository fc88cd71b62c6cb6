"""Reader of the head of a GGUF file (versions 2 and 3): metadata and tensor shapes, never the weights.

Layout from the ggml project's GGUF specification: magic, version, counts, key/value pairs, tensor infos.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from metainf.domain import BadInput

MAGIC = b"GGUF"
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
LARGEST = 1 << 28  # a string or list longer than this is a broken length, not data

# ggml tensor type -> (name, weights of a block, bytes of a block)
TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: name, shape, and the ggml type it is stored in."""

    name: str
    shape: tuple[int, ...]
    kind: str
    bits: float


@dataclass(frozen=True)
class GgufHead:
    """What the head of a GGUF file says. Long lists (vocabularies) are kept as their length only."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def params(self) -> int:
        """Number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Average stored bits of a weight."""
        return sum(prod(tensor.shape) * tensor.bits for tensor in self.tensors) / self.params

    @property
    def main_type(self) -> str:
        """The ggml type that holds most weights."""
        held: dict[str, int] = {}
        for tensor in self.tensors:
            held[tensor.kind] = held.get(tensor.kind, 0) + prod(tensor.shape)
        return max(held, key=lambda kind: held[kind])


def read_gguf(path: Path) -> GgufHead:
    """Read the head of a GGUF file. Raises BadInput for a foreign, truncated or unknown-version file."""
    try:
        with path.open("rb") as file:
            return _head(file)
    except OSError as error:
        raise BadInput(f"cannot read GGUF file {path.name}: {error.strerror}") from None
    except (BadInput, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise BadInput(f"{path.name} is not a readable GGUF file: {error}") from None


def _head(file: BinaryIO) -> GgufHead:
    magic = file.read(4)
    if magic != MAGIC:
        raise BadInput(f"expected it to begin with GGUF, found {magic!r}")
    version = _scalar(file, "<I")
    if version not in (2, 3):
        raise BadInput(f"expected version 2 or 3, found {version}")
    tensor_count, pair_count = _count(file), _count(file)
    metadata = {}
    for _ in range(pair_count):
        name = _string(file)
        metadata[name] = _value(file, _scalar(file, "<I"))
    tensors = tuple(_tensor(file) for _ in range(tensor_count))
    if not tensors or not prod(tensors[0].shape):
        raise BadInput("it holds no tensors (a vocabulary-only file, or the later part of a split model)")
    return GgufHead(int(version), metadata, tensors)


def _scalar(file: BinaryIO, layout: str) -> Any:
    size = struct.calcsize(layout)
    data = file.read(size)
    if len(data) < size:
        raise BadInput("the file ends inside its head (truncated download?)")
    return struct.unpack(layout, data)[0]


def _count(file: BinaryIO) -> int:
    count = int(_scalar(file, "<Q"))
    if count > LARGEST:
        raise BadInput(f"a length of {count} cannot be right")
    return count


def _string(file: BinaryIO) -> str:
    size = _count(file)
    data = file.read(size)
    if len(data) < size:
        raise BadInput("the file ends inside its head (truncated download?)")
    return data.decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind != ARRAY:
        return _scalar(file, _layout(kind))
    inner = _scalar(file, "<I")
    count = _count(file)
    read: Callable[[], Any]
    if inner in (STRING, ARRAY):
        read = lambda: _value(file, inner)  # noqa: E731
    else:
        layout = _layout(inner)
        read = lambda: _scalar(file, layout)  # noqa: E731
    if count <= 4096:
        return [read() for _ in range(count)]
    for _ in range(count):
        read()
    return {"length": count}


def _layout(kind: int) -> str:
    if kind not in SCALARS:
        raise BadInput(f"metadata value type {kind} is not one of the specification's")
    return SCALARS[kind]


def _tensor(file: BinaryIO) -> Tensor:
    name = _string(file)
    dimensions = int(_scalar(file, "<I"))
    if dimensions > 8:
        raise BadInput(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(_count(file) for _ in range(dimensions))
    kind = int(_scalar(file, "<I"))
    _scalar(file, "<Q")
    if kind not in TENSOR_TYPES:
        raise BadInput(f"tensor {name!r} is of ggml type {kind}, which this reader does not know")
    label, weights, size = TENSOR_TYPES[kind]
    return Tensor(name, shape, label, 8 * size / weights)
