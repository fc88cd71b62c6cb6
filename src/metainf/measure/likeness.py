"""What speed costs a picture: how near it is to the one that the unaccelerated pipeline draws. Pure.

Pictures travel between a run and its record as base64 texts of .npy files (float32, height × width ×
channels, 0..1), as answers of language models do as plain texts.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PSNR, MOST_DB = "psnr_db", 99.0
"""Peak signal-to-noise ratio; equal pictures have MOST_DB."""
LEAST_RANGE = 1e-3


def picture_of(text: str) -> Floats:
    """The picture that a text holds. ValueError for a text that holds none."""
    found = np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return np.asarray(found, dtype=np.float32)


def psnr_db(pictures: Sequence[Floats], others: Sequence[Floats]) -> float | None:
    """Of all pixels together, in decibels; the peak is the range of the others' values, so that a flat
    picture is not taken for a faithful one. None where there is nothing to compare, or pictures of other
    sizes."""
    pairs = list(zip(pictures, others, strict=False))
    if not pairs or any(one.shape != other.shape for one, other in pairs):
        return None
    reference = np.concatenate([other.ravel() for _, other in pairs]).astype(np.float64)
    error = np.concatenate([one.ravel() for one, _ in pairs]).astype(np.float64) - reference
    peak = float(np.ptp(reference))
    if not np.isfinite(error).all() or not np.isfinite(peak):
        return None
    mean = float(np.mean(error**2))
    if mean == 0:
        return MOST_DB
    return float(np.clip(10 * np.log10(max(peak, LEAST_RANGE) ** 2 / mean), -MOST_DB, MOST_DB))
