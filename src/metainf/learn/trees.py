"""Boosted trees: trained with XGBoost, kept as flat arrays, evaluated with NumPy alone.

Loading XGBoost costs more than a whole answer may. Evaluation follows QuickScorer (Lucchese et al. 2015):
every split that sends a row to the right strikes the leaves on its left; the lowest leaf left standing is
the row's. Strikes of one feature depend only on between which thresholds its value lies, so they are
tabulated once, and a row costs one lookup for each feature instead of a walk through every tree.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import ArtifactError
from metainf.learn import flat

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
BLOCK = 256
"""Rows whose leaf sets are held at once; they stay in the processor's cache."""
MOST_CASES = 1024
"""Combined intervals of features that are tabulated together, so that a row costs fewer lookups."""
Loss = Callable[[Floats], tuple[Floats, Floats]]
"""Predictions (n,) to the gradient and second derivative of a loss, each (n,)."""


def train(
    features: Matrix,
    target: Floats,
    parameters: Mapping[str, Any],
    rounds: int,
    weights: Floats | None = None,
    loss: Loss | None = None,
) -> bytes:
    """Fit boosted trees and return the model as bytes. Deterministic for one thread count.

    features: float32 (n, d), NaN for missing. target: (n,). `loss` takes the place of the objective, and
    then weighs the rows itself. Raises BadInput where the trees have more than 64 leaves or the objective
    is not one of plain regression.
    """
    import xgboost

    data = xgboost.DMatrix(features, label=target, weight=weights)
    options = {"verbosity": 0, "nthread": 2, "seed": 0, **parameters}
    own = None if loss is None else lambda reached, _: loss(np.asarray(reached, dtype=np.float64))
    booster = xgboost.train(options, data, rounds, obj=own)
    return flat.from_xgboost(json.loads(booster.save_raw("json"))).dump()


class Trees:
    """A trained ensemble. Raises ArtifactError where the bytes are not a model."""

    def __init__(self, model: bytes) -> None:
        self.flat = flat.load(model)

    def predict(self, features: Matrix) -> Floats:
        """Predictions (n,) of a float32 matrix (n, d)."""
        data, row = distinct(checked(features, self.flat.features))
        return self._forest.predict(data)[""][row]

    def contributions(self, features: Matrix) -> Floats:
        """SHAP values (n, d + 1) by exact tree SHAP (Lundberg 2018); the last column is the bias."""
        data = checked(features, self.flat.features)
        return np.asarray(self._shares.contributions(data))

    def gain(self) -> Floats:
        """Total gain by feature number, as pairs in an array (k, 2): feature, gain."""
        used = np.unique(self.flat.feature)
        total = np.bincount(self.flat.feature, weights=self.flat.gain, minlength=self.flat.features)
        return np.stack([used.astype(np.float64), total[used]], axis=1)

    @cached_property
    def _forest(self) -> "Forest":
        return Forest({"": [self]})

    @cached_property
    def _shares(self) -> Any:
        from metainf.learn.shap import Shares

        return Shares(self.flat)


class Forest:
    """Named groups of ensembles over the same features, evaluated together."""

    def __init__(self, groups: Mapping[str, Sequence[Trees]]) -> None:
        parts = [member.flat for members in groups.values() for member in members]
        self._places = {
            name: [place for place, part in enumerate(parts) if any(part is m.flat for m in members)]
            for name, members in groups.items()
        }
        self.features = max((part.features for part in parts), default=0)
        if any(part.features != self.features for part in parts):
            raise ArtifactError(f"expected boosted trees over {self.features} features each, found others")
        width = max((part.width for part in parts), default=16)
        self._set = np.dtype(flat.WIDTHS[width])
        self._first = np.cumsum([0, *(len(part.leaf) for part in parts)])
        self._base = np.array([part.base for part in parts], dtype=np.float64)
        self._leaf = np.zeros((self._first[-1], width), dtype=np.float32)
        for start, part in zip(self._first, parts, strict=False):
            self._leaf[start : start + len(part.leaf), : part.width] = part.leaf
        self._offset = (np.arange(len(self._leaf)) * width - 127).astype(np.int32)
        self._parts = parts

    @cached_property
    def _strikes(self) -> list[tuple[list[tuple[int, Matrix]], NDArray[Any]]]:
        """(features with their thresholds, leaves left standing [combined interval, tree])."""
        found: list[tuple[list[tuple[int, Matrix]], NDArray[Any]]] = []
        for number, steps, table in sorted(self._single, key=lambda one: len(one[2])):
            last = found[-1] if found else ([], table[:0])
            if last[0] and len(last[1]) * len(table) <= MOST_CASES:
                both = last[1][:, None] & table[None]
                found[-1] = [*last[0], (number, steps)], both.reshape(-1, both.shape[2])
            else:
                found.append(([(number, steps)], table))
        return found

    @property
    def _single(self) -> list[tuple[int, Matrix, NDArray[Any]]]:
        """(feature, its thresholds, leaves left standing [interval, tree]); the last row is for NaN."""
        parts = self._parts
        tree = np.concatenate([p.tree.astype(np.intp) + s for p, s in zip(parts, self._first, strict=False)])
        feature, threshold, default, left = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("feature", "threshold", "default_left", "left")
        )
        standing = ~left.astype(self._set)
        found = []
        for number in np.unique(feature).tolist():
            mine = np.flatnonzero(feature == number)
            steps, place = np.unique(threshold[mine], return_inverse=True)
            table = np.full((len(steps) + 2, len(self._leaf)), ~self._set.type(0))
            np.bitwise_and.at(table, (place.ravel() + 1, tree[mine]), standing[mine])
            np.bitwise_and.accumulate(table[:-1], axis=0, out=table[:-1])
            right = mine[~default[mine]]
            np.bitwise_and.at(table[-1], tree[right], standing[right])
            found.append((number, steps, table))
        return found

    def predict(self, features: Matrix) -> dict[str, Floats]:
        """Mean prediction (n,) of each group for a float32 matrix (n, d)."""
        data = checked(features, self.features)
        found = np.empty((len(data), len(self._base)))
        common, many = np.full(len(self._leaf), ~self._set.type(0)), []
        unknown = bool(np.isnan(data).any())
        for parts, table in self._strikes if len(data) else ():
            place = _combined(data, parts, unknown)
            if place.min() == place.max():
                common &= table[place[0]]
            else:
                many.append((table, place))
        work = _Workspace(min(BLOCK, len(data)), common)
        for start in range(0, len(data), BLOCK):
            here = slice(start, start + BLOCK)
            work.strike(common, [(table, place[here]) for table, place in many], len(data[here]))
            work.sum_leaves(self._leaf, self._offset, self._first[:-1], found[here])
        found += self._base
        return {name: found[:, places].mean(axis=1) for name, places in self._places.items()}


class _Workspace:
    """Arrays for one block of rows, used again for each: fresh ones would cost more than the arithmetic."""

    def __init__(self, rows: int, common: NDArray[Any]) -> None:
        self._sets = np.empty((2, rows, len(common)), dtype=common.dtype)
        self._bits = np.empty((rows, len(common)), dtype=np.int32)

    def strike(self, common: NDArray[Any], many: Sequence[tuple[NDArray[Any], Codes]], rows: int) -> None:
        """The leaves left standing in each tree for a block of rows."""
        self._rows = rows
        standing, other = self._sets[:, :rows]
        standing[:] = common
        for table, place in many:
            table.take(place, axis=0, out=other, mode="clip")
            np.bitwise_and(standing, other, out=standing)

    def sum_leaves(self, leaf: Matrix, offset: NDArray[np.int32], starts: Codes, out: Floats) -> None:
        """Sum of the lowest leaves standing, by member. Their bit is a power of two: its exponent tells."""
        standing, other = self._sets[:, : self._rows]
        place = self._bits[: self._rows]
        values = place.view(np.float32)
        np.negative(standing, out=other)
        np.bitwise_and(standing, other, out=other)
        values[:] = other
        np.right_shift(place, 23, out=place)
        np.add(place, offset, out=place)
        leaf.take(place, out=values, mode="clip")
        np.add.reduceat(values, starts, axis=1, out=out)


def checked(features: Matrix, width: int) -> Matrix:
    """The matrix as float32. Raises ArtifactError where it has another number of features."""
    data = np.asarray(features, dtype=np.float32)
    if data.ndim != 2 or data.shape[1] != width:
        raise ArtifactError(f"expected {width} features for the boosted trees, found {data.shape}")
    return data


def _combined(data: Matrix, parts: Sequence[tuple[int, Matrix]], unknown: bool) -> Codes:
    """Which case of several features' intervals each row is, the last feature counting fastest.

    Intervals lie between thresholds; one past the last is for NaN, where there are any (`unknown`).
    """
    case = np.zeros(len(data), dtype=np.intp)
    for number, steps in parts:
        values = data[:, number]
        case *= len(steps) + 2
        case += steps.searchsorted(values, "right")
        if unknown:
            case += np.isnan(values)
    return case


def distinct(data: Matrix) -> tuple[Matrix, Codes]:
    """The different rows of a matrix, and which of them each row is."""
    kinds: dict[bytes, int] = {}
    width = data.shape[1] * data.itemsize
    keys = np.ascontiguousarray(data).view(f"V{width}").ravel().tolist() if data.size else [b""] * len(data)
    row = np.array([kinds.setdefault(key, len(kinds)) for key in keys], dtype=np.intp)
    first = np.empty(len(kinds), dtype=np.intp)
    first[row[::-1]] = np.arange(len(row))[::-1]
    return data[first], row
