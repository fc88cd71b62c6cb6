"""Calibrated intervals for groups never seen: weighted quantiles, widening, duplicate weights."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.learn.views import Floats


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """Smallest value whose cumulative weight reaches `share`."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, share * total[-1])), len(values) - 1)])


def new_group_factor(residual: Floats, groups: NDArray[Any], coverage: float) -> float:
    """How much wider than its quantile an interval must be for a new group.

    The between-group share of the residual's variance follows Student's law with groups − 1 degrees of
    freedom and an estimated centre, not the normal law. Residuals are cut at ±1.
    """
    from scipy.stats import norm, t

    names = np.unique(groups)
    cut = np.clip(residual, -1, 1)
    means = np.array([np.mean(cut[groups == g]) for g in names])
    within = np.mean([np.var(cut[groups == g]) for g in names])
    share = float(np.mean(means**2) / (np.mean(means**2) + within + 1e-12))
    tail = (1 + coverage) / 2
    ratio = float(t.ppf(tail, max(len(names) - 1, 1)) / norm.ppf(tail))
    return float(np.sqrt(share * ratio**2 * (1 + 1 / len(names)) + 1 - share))


def best_for_new_group(loss: Floats, weights: Floats, groups: NDArray[Any]) -> int:
    """Number of the candidate with the least mean loss, every group counting the same.

    loss: (candidates, rows). Of equals the first.
    """
    names = np.unique(groups)
    mean = np.stack([np.average(loss[:, groups == g], axis=1, weights=weights[groups == g]) for g in names])
    return int(np.argmin(mean.mean(axis=0)))


def new_group_share(coverage: float, groups: int) -> float:
    """Share of the held-out residuals to cover, so that one more group is covered on average.

    The usual conformal step from n to n + 1, softened: groups are few, their rows many.
    """
    return coverage + (1 - coverage) / (groups + 1)


def row_weights(groups: NDArray[Any], values: Floats) -> Floats:
    """1/copies for rows that repeat another's values (n, k), times a mild group balance n^−1/2; mean 1."""
    _, place, counts = np.unique(np.round(values, 9), axis=0, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[place.ravel()]
    _, number = np.unique(groups, return_inverse=True)
    weights = weights / np.sqrt(np.bincount(number.ravel(), weights=weights)[number.ravel()])
    return np.asarray(weights / weights.mean())
