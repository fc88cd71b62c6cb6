"""What was worked out from read-only columns is kept: many questions are about the same candidates.

The columns of known pairs and models are read-only arrays, the same ones for every question (see
`columns`). A rule that depends on nothing else is worked out for them once. Arrays are told apart by
identity and held as long as their result, so that no other array can take their place; columns that can
still be written to are never remembered, nor is one value for all rows: that is quickly worked out again.
"""

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

R = TypeVar("R")
MOST = 64
"""Results kept of each rule; the oldest goes first."""
LONGEST = 5_000
"""Rows beyond which nothing is kept: tables to learn from are asked about once."""


def remembered(rule: Callable[..., R], most: int = MOST) -> Callable[..., R]:
    """The rule with a memory of its last `most` results, which become read-only.

    Its arguments are arrays and hashable values.
    """
    memory: dict[tuple[Any, ...], tuple[tuple[Any, ...], R]] = {}
    lock = Lock()

    @wraps(rule)
    def ask(*arguments: Any) -> R:
        names: list[Any] = []
        for one in arguments:
            if not isinstance(one, np.ndarray):
                names.append(one)
            elif lasting(one):
                names.append(id(one))
            else:
                return rule(*arguments)
        key = tuple(names)
        hit = memory.get(key)
        if hit is not None:
            return hit[1]
        found = read_only(rule(*arguments))
        with lock:
            if len(memory) >= most:
                del memory[next(iter(memory))]
            memory[key] = arguments, found
        return found

    return ask


def of_columns(
    *names: str,
) -> Callable[[Callable[[dict[str, NDArray[Any]]], R]], Callable[[dict[str, NDArray[Any]]], R]]:
    """A rule of the columns so named, with a memory. It may read no others."""

    def decorate(rule: Callable[[dict[str, NDArray[Any]]], R]) -> Callable[[dict[str, NDArray[Any]]], R]:
        known = remembered(lambda *arrays: rule(_Named(zip(names, arrays, strict=True))))

        @wraps(rule)
        def ask(c: dict[str, NDArray[Any]]) -> R:
            found = [c[name] for name in names if name in c]
            return known(*found) if len(found) == len(names) and all(map(lasting, found)) else rule(c)

        return ask

    return decorate


class _Named(dict[str, NDArray[Any]]):
    """Columns of which an absent one is an error of the rule that asks for it, not an unknown number."""

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]


def lasting(column: NDArray[Any]) -> bool:
    """Whether results of this column are worth keeping."""
    return not column.flags.writeable and column.strides[0] != 0 and len(column) <= LONGEST


def constant(value: NDArray[Any], rows: int) -> NDArray[Any]:
    """A read-only column of one value (in an array of length 1) that takes the room of one row."""
    return np.ndarray((rows,), value.dtype, read_only(value), strides=(0,))


def read_only(found: R) -> R:
    """The same result with its arrays closed to writing."""
    if isinstance(found, np.ndarray):
        found.flags.writeable = False
    elif isinstance(found, dict):
        for part in found.values():
            read_only(part)
    elif isinstance(found, tuple | list):
        for part in found:
            read_only(part)
    return found


@remembered
def coded(names: NDArray[Any]) -> tuple[list[str], NDArray[np.intp]]:
    """The distinct names in order, and the place of each row's among them."""
    if len(names) and not names.strides[0]:
        return [str(names[0])], np.zeros(len(names), dtype=np.intp)
    found, place = np.unique(names, return_inverse=True)
    return [str(name) for name in found.tolist()], place.ravel()
