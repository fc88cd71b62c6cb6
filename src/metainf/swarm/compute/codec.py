"""Activations as bytes and back; nothing is believed of what arrives before it is checked.

    f32   4 bytes a number, exact
    f16   2 bytes; rounds to 11 bits, and what is beyond 65,504 becomes infinite, which the other side refuses
    bf16  2 bytes; rounds to 8 bits, of the range of float32
    int8  1 byte and a float32 scale for each GROUP numbers of a token: the nearest of 255 equal steps

All little-endian. Of int8, the scales of all tokens come first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput

MOST_TOKENS, MOST_WIDTH = 1024, 65_536
MOST_BYTES = 64 * 2**20
GROUP = 64
"""Neighbouring numbers of a token that share a scale: single channels of a transformer can be a thousand
times as large as the others, and must not blur all of them."""
STEPS = 127
NOT_A_NUMBER = 0x7FC0
Floats = NDArray[np.float32]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class _Codec:
    size: Callable[[Shape], int]
    write: Callable[[Floats], bytes]
    read: Callable[[Shape, bytes], Floats]


def packed(values: Floats, codec: str = "f32") -> tuple[tuple[int, ...], bytes]:
    """Shape and bytes of [1, tokens, width]. Raises BadInput for an unknown codec."""
    return tuple(values.shape), _known(codec).write(np.ascontiguousarray(values, dtype=np.float32))


def unpacked(shape: Sequence[int], codec: str, data: bytes) -> Floats:
    """The values as float32, [1, tokens, width]. Raises BadInput where shape, codec and length do not fit,
    where they are larger than anything that is sent, and where a scale is no scale."""
    known = _known(codec)
    if len(shape) != 3 or shape[0] != 1 or not 0 < shape[1] <= MOST_TOKENS or not 0 < shape[2] <= MOST_WIDTH:
        raise BadInput(f"expected a shape [1, 1-{MOST_TOKENS}, 1-{MOST_WIDTH}], found {list(shape)[:8]}")
    fits = (1, int(shape[1]), int(shape[2]))
    if len(data) != known.size(fits):
        raise BadInput(f"expected {known.size(fits):,} bytes, found {len(data):,}")
    return known.read(fits, data)


def size(tokens: int, width: int, codec: str = "f32") -> int:
    """Bytes of the activations of so many tokens. Raises BadInput for an unknown codec."""
    return _known(codec).size((1, tokens, width))


def _known(codec: str) -> _Codec:
    if codec not in CODECS:
        raise BadInput(f"expected a codec of {', '.join(CODECS)}, found {codec[:32]!r}")
    return CODECS[codec]


def _plain(dtype: str) -> _Codec:
    wanted = np.dtype(dtype)

    def write(values: Floats) -> bytes:
        with np.errstate(over="ignore"):
            return values.astype(wanted).tobytes()

    def read(shape: Shape, data: bytes) -> Floats:
        return np.frombuffer(data, dtype=wanted).reshape(shape).astype(np.float32)

    return _Codec(lambda shape: math.prod(shape) * wanted.itemsize, write, read)


def _write_bf16(values: Floats) -> bytes:
    """The upper half of each float32, rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    rounded[np.isnan(values)] = NOT_A_NUMBER
    return bytes(rounded.tobytes())


def _read_bf16(shape: Shape, data: bytes) -> Floats:
    bits = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
    made: Floats = bits.view(np.float32).reshape(shape)
    return made


def _groups(width: int) -> int:
    return -(-width // GROUP)


def _write_int8(values: Floats) -> bytes:
    """What is no number makes its scale none, so that the other side finds it."""
    _, tokens, width = values.shape
    groups = _groups(width)
    padded = np.zeros((tokens, groups * GROUP), dtype=np.float32)
    padded[:, :width] = values[0]
    parts = padded.reshape(tokens, groups, GROUP)
    scale = np.abs(parts).max(axis=2) / np.float32(STEPS)
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.rint(parts / np.where(scale > 0, scale, 1)[..., None])
    whole = np.nan_to_num(np.clip(steps, -STEPS, STEPS)).astype(np.int8)
    return bytes(scale.astype("<f4").tobytes() + whole.reshape(tokens, -1)[:, :width].tobytes())


def _read_int8(shape: Shape, data: bytes) -> Floats:
    _, tokens, width = shape
    groups = _groups(width)
    scale = np.frombuffer(data, dtype="<f4", count=tokens * groups).reshape(tokens, groups)
    with np.errstate(over="ignore", invalid="ignore"):
        if not (np.isfinite(scale * np.float32(STEPS + 1)) & (scale >= 0)).all():
            raise BadInput("expected scales that are finite and not negative")
    whole = np.frombuffer(data, dtype=np.int8, offset=4 * tokens * groups).reshape(tokens, width)
    made: Floats = (whole * np.repeat(scale, GROUP, axis=1)[:, :width]).astype(np.float32)
    return made.reshape(shape)


CODECS = {
    "f32": _plain("<f4"),
    "f16": _plain("<f2"),
    "bf16": _Codec(lambda shape: 2 * math.prod(shape), _write_bf16, _read_bf16),
    "int8": _Codec(lambda shape: shape[1] * (shape[2] + 4 * _groups(shape[2])), _write_int8, _read_int8),
}
"""Formats on the wire. All but f32 round, so that logits are no longer exactly those of one process."""
