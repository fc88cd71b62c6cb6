"""Candidates as columns, made once for as long as questions are about the same ones.

A question differs from the last in its model or workload; its pairs of hardware and method are often the
same objects. Their columns are read-only, so that what follows from them alone is kept too (see
`remembering`).
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Hardware, Method, Model, Workload
from metainf.embed.columns import (
    Columns,
    encode_hardware,
    encode_method,
    encode_model,
    encode_workload,
    gather,
)
from metainf.embed.remembering import LONGEST, coded, constant, read_only, remembered

Pairs = Sequence[tuple[Hardware, Method]]
MOST = 16
"""Lists of pairs kept, as given and as merged; a thousand pairs are about a megabyte."""
_memory: dict[tuple[int, ...], tuple[Pairs, Columns]] = {}
_lock = Lock()


def asked(model: Model, workload: Workload, pairs: Pairs) -> Columns:
    """Columns of one question, a row for each pair. They cannot be written to."""
    work = {
        name: constant(values, len(pairs)) for name, values in gather([workload], encode_workload, 1).items()
    }
    return _of_model(model, len(pairs)) | work | _of_pairs(pairs)


@remembered
def _of_model(model: Model, rows: int) -> Columns:
    return gather([model], encode_model, rows)


def _of_pairs(pairs: Pairs) -> Columns:
    """Columns of hardware and method, kept by the identity of these (they are frozen)."""
    key = tuple(map(id, chain.from_iterable(pairs)))
    hit = _memory.get(key)
    if hit is not None:
        return hit[1]
    found = gather([pair[0] for pair in pairs], encode_hardware, len(pairs))
    found = read_only(found | gather([pair[1] for pair in pairs], encode_method, len(pairs)))
    if len(pairs) <= LONGEST:
        with _lock:
            if len(_memory) >= MOST:
                del _memory[next(iter(_memory))]
            _memory[key] = tuple(pairs), found
    return found


def merged(c: Columns) -> tuple[Columns, NDArray[np.intp] | None]:
    """The columns with one row for all that are equal, and the row of each; None where nothing is merged.

    Only columns that cannot be written to are compared, so that the work is done once for known pairs.
    """
    fixed = {name: values for name, values in c.items() if not values.flags.writeable}
    if len(fixed) < len(c):
        return dict(c), None
    varied = {name: values for name, values in fixed.items() if values.strides[0]}
    few, place = _different(*varied.values())
    rows = len(few[0]) if few else 1
    same = {name: values[:rows] for name, values in fixed.items() if not values.strides[0]}
    return same | dict(zip(varied, few, strict=True)), place


@partial(remembered, most=MOST)
def _different(*columns: NDArray[Any]) -> tuple[list[NDArray[Any]], NDArray[np.intp]]:
    """The columns without rows that were there before, and which of the rest each row is."""
    codes = [coded(v)[1] if v.dtype.kind == "U" else np.ascontiguousarray(v).view(np.int64) for v in columns]
    keys = np.stack(codes, axis=1).view(f"V{8 * len(codes)}").ravel().tolist()
    kinds: dict[bytes, int] = {}
    place = np.array([kinds.setdefault(key, len(kinds)) for key in keys], dtype=np.intp)
    first = np.unique(place, return_index=True)[1]
    return [values[first] for values in columns], place
