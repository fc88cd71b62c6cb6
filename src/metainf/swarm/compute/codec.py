"""Activations as bytes and back; nothing is believed of what arrives before it is checked."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput

CODECS = {"f32": "<f4", "f16": "<f2"}
"""Number formats on the wire; f16 rounds, so that logits are no longer exactly those of one process."""
MOST_TOKENS, MOST_WIDTH = 1024, 65_536
MOST_BYTES = 64 * 2**20


def packed(values: NDArray[np.float32], codec: str = "f32") -> tuple[tuple[int, ...], bytes]:
    """Shape and bytes. Raises BadInput for an unknown codec."""
    return tuple(values.shape), np.ascontiguousarray(values, dtype=_format(codec)).tobytes()


def unpacked(shape: Sequence[int], codec: str, data: bytes) -> NDArray[np.float32]:
    """The values as float32, [1, tokens, width]. Raises BadInput where shape, codec and length do not fit, or
    are larger than anything that is sent."""
    wanted = np.dtype(_format(codec))
    if len(shape) != 3 or shape[0] != 1 or not 0 < shape[1] <= MOST_TOKENS or not 0 < shape[2] <= MOST_WIDTH:
        raise BadInput(f"expected a shape [1, 1-{MOST_TOKENS}, 1-{MOST_WIDTH}], found {list(shape)[:8]}")
    if len(data) != math.prod(shape) * wanted.itemsize:
        raise BadInput(f"expected {math.prod(shape) * wanted.itemsize:,} bytes, found {len(data):,}")
    return np.frombuffer(data, dtype=wanted).reshape(shape).astype(np.float32)


def _format(codec: str) -> str:
    if codec not in CODECS:
        raise BadInput(f"expected a codec of {', '.join(CODECS)}, found {codec[:32]!r}")
    return CODECS[codec]
