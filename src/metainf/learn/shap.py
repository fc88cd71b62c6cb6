"""Exact tree SHAP (Lundberg 2018) over flat trees.

A leaf of value v whose path asks of d features gives feature j the Shapley value of a product game:
v (o_j − z_j) ∫₀¹ ∏_{k≠j} (o_k t + z_k (1 − t)) dt, where o_k says whether the row passes every split of
feature k on the path and z_k is the share of the training weight that does (the integral is the beta
function that weighs coalitions). The integrand is a polynomial of degree d − 1, so that Gauss and
Legendre's rule with ⌈d/2⌉ points is exact.
"""

import numpy as np
from numpy.typing import NDArray

from metainf.learn.flat import Flat

Floats = NDArray[np.float64]
_ROWS = 64


class Shares:
    """The paths of an ensemble, laid out as (path, place of a feature on it)."""

    def __init__(self, flat: Flat) -> None:
        self._flat = flat
        bits = np.arange(flat.width, dtype=flat.left.dtype)
        node, leaf = np.nonzero((((flat.left | flat.right)[:, None] >> bits) & 1).astype(bool))
        path = flat.tree[node].astype(np.intp) * flat.width + leaf
        order = np.lexsort((flat.feature[node], path))
        self._node, path = node[order], path[order]
        self._left = ((flat.left[self._node] >> bits[leaf[order]]) & 1).astype(bool)
        feature = flat.feature[self._node]
        fresh = np.ones(len(path), dtype=bool)
        fresh[1:] = (path[1:] != path[:-1]) | (feature[1:] != feature[:-1])
        self._start = np.flatnonzero(fresh)
        self._feature = feature[self._start].astype(np.intp)
        leaves, first, row = np.unique(path[self._start], return_index=True, return_inverse=True)
        self._row = row.ravel()
        self._slot = np.arange(len(self._start)) - first[self._row]
        self._value = flat.leaf.ravel()[leaves].astype(np.float64)
        self._depth = int(self._slot.max()) + 1 if len(self._slot) else 1
        self._passing = self._laid(self._joined(np.where(self._left, 1.0, 0.0)[None], share=True))[0]
        alone = np.setdiff1d(np.arange(len(flat.leaf)), flat.tree)
        self._bias = flat.base + float(flat.leaf[alone, 0].astype(np.float64).sum())
        self._bias += float(self._value @ self._passing.prod(axis=1))

    def _joined(self, left: Floats, share: bool = False) -> Floats:
        """Per path and feature the product over its splits: passed or not, or the share that passes."""
        if not len(self._start):
            return np.ones((len(left), 0))
        if share:
            part = self._flat.share[self._node].astype(np.float64)[None]
            left = np.where(self._left, part, 1.0 - part)
        return np.asarray(np.multiply.reduceat(left, self._start, axis=1))

    def _laid(self, values: Floats) -> Floats:
        """Values of (row, path and feature) as (row, path, place), 1 where a path has fewer features."""
        table = np.ones((len(values), len(self._value), self._depth))
        table[:, self._row, self._slot] = values
        return table

    def contributions(self, features: NDArray[np.float32]) -> Floats:
        """SHAP values (n, d + 1); the last column is the mean prediction."""
        flat = self._flat
        found = np.zeros((len(features), flat.features + 1))
        found[:, -1] = self._bias
        for start in range(0, len(features), _ROWS):
            x = features[start : start + _ROWS][:, flat.feature]
            left = np.where(np.isnan(x), flat.default_left, x < flat.threshold)
            passed = self._laid(self._joined((left[:, self._node] == self._left).astype(np.float64)))
            amounts = self._shapley(passed)[:, self._row, self._slot]
            for row, amount in enumerate(amounts, start):
                found[row, :-1] = np.bincount(self._feature, amount, minlength=flat.features)
        return found

    def _shapley(self, passed: Floats) -> Floats:
        """Shapley value of every place of every path."""
        points, weights = np.polynomial.legendre.leggauss((self._depth + 1) // 2)
        total = np.zeros_like(passed)
        for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
            factor = passed * t + self._passing * (1 - t)
            before, after = np.ones_like(factor), np.ones_like(factor)
            np.cumprod(factor[..., :-1], axis=-1, out=before[..., 1:])
            np.cumprod(factor[..., :0:-1], axis=-1, out=after[..., -2::-1])
            total += weight * before * after
        return np.asarray(total * (passed - self._passing) * self._value[:, None])
