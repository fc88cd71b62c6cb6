"""What is believed of the places of one machine, and what one more run would be worth.

A *task* is a choice between places (methods); what is chosen is the place believed best. A run of one place
moves the beliefs about every place that is like it, in every task. Worth is counted in natural logs of the
value: 0.01 is about 1 % more in one task.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from metainf.learn.places import Numbers
from metainf.learn.views import Floats

NODES = 10
_LEAST = 1e-12


@dataclass(frozen=True)
class Beliefs:
    """Of n places. mean, covariance: of log values, (n,) and (n, n); noise: the error of one run; task:
    codes; alive: may be chosen (it is not known to fail or to break a limit); p_ok: the chance that a run
    works."""

    mean: Floats
    covariance: Floats
    noise: float
    task: Numbers
    alive: NDArray[np.bool_]
    p_ok: Floats

    def moved(self) -> Floats:
        """How far each belief (column) moves per standard deviation of a run of each place (row)."""
        spread = np.sqrt(np.maximum(np.diag(self.covariance), 0.0) + self.noise**2)
        return np.asarray(self.covariance / np.maximum(spread, _LEAST)[:, None])

    def chosen(self) -> Numbers:
        """The place with the highest mean that may be chosen, for the task of each place (n,)."""
        mean = np.where(self.alive, self.mean, -np.inf)
        order = np.lexsort((-mean, self.task))
        first = order[np.flatnonzero(np.diff(self.task[order], prepend=-1))]
        return np.asarray(first[np.unique(self.task, return_inverse=True)[1].ravel()])


Rule = Callable[[Beliefs], Floats]
"""The worth (n,) of one run of each place."""


@cache
def _normal() -> tuple[Floats, Floats]:
    """Nodes and weights that take the mean over a standard normal variable."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return nodes, weights / weights.sum()


def gained(beliefs: Beliefs, of: Numbers | None = None) -> Floats:
    """Knowledge gradient: expected rise of the best believed value, summed over tasks (Frazier, Powell and
    Dayanik 2009), of the places `of` (all by default)."""
    order = np.argsort(beliefs.task, kind="stable")
    starts = np.flatnonzero(np.diff(beliefs.task[order], prepend=-1))
    mean = np.where(beliefs.alive, beliefs.mean, -np.inf)[order]
    moved = beliefs.moved() if of is None else beliefs.moved()[of]
    moved = moved[:, order]
    now = np.maximum.reduceat(mean, starts)
    open_ = np.isfinite(now)
    worth = np.zeros(len(moved))
    for node, weight in zip(*_normal(), strict=True):
        after = np.maximum.reduceat(mean + node * moved, starts, axis=1)
        worth += weight * (after[:, open_] - now[open_]).sum(axis=1)
    return np.maximum(worth, 0.0)


def contrasts(beliefs: Beliefs) -> tuple[Floats, Floats, Numbers]:
    """Of each place against the chosen one of its task: expected improvement (n,), variance of the
    difference (n,), and that chosen place (n,)."""
    from scipy.special import ndtr

    best, rows, c = beliefs.chosen(), np.arange(len(beliefs.mean)), beliefs.covariance
    variance = np.maximum(np.diag(c) + np.diag(c)[best] - 2 * c[rows, best], 0.0)
    s = np.sqrt(variance) + _LEAST
    z = (beliefs.mean - beliefs.mean[best]) / s
    hope = s * (np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) + z * ndtr(z))
    good = beliefs.alive & beliefs.alive[best] & (best != rows)
    return np.where(good, hope, 0.0), variance, best


def at_stake(beliefs: Beliefs) -> Floats:
    """How much of the uncertain contrasts with the chosen places one run settles, each weighed by the
    regret at stake in it (its expected improvement)."""
    hope, variance, best = contrasts(beliefs)
    moved = beliefs.moved()
    change = (moved - moved[:, best]) ** 2
    return np.asarray(change @ (hope / np.maximum(variance, _LEAST)))


def improved(beliefs: Beliefs) -> Floats:
    """Expected improvement on the chosen place, every task and place for itself."""
    hope, _, best = contrasts(beliefs)
    np.maximum.at(hope, best, hope * (1 - 1e-3))
    variance = np.diag(beliefs.covariance)
    return np.asarray(hope * variance / (variance + beliefs.noise**2 + _LEAST))


def uncertain(beliefs: Beliefs) -> Floats:
    """Variance of the belief: what is least known, whatever hangs on it."""
    return np.asarray(np.diag(beliefs.covariance))
