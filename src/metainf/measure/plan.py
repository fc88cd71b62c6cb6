"""Which runs to measure next: those whose result would most likely change a selection.

A *task* is a choice between places (methods); what is chosen is the place believed best. A run of one place
moves the beliefs about every place that is like it, in every task. Its worth is what the choices are
expected to gain by that (natural log of the value, summed over tasks), and a plan takes the runs with the
most worth per second until the time is spent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput, Method, Setting
from metainf.learn.local import Numbers, Places, places, posterior
from metainf.learn.views import Floats

_COUNT = 16
_LEAST = 1e-12


def _normal_nodes(count: int) -> tuple[Floats, Floats]:
    """Nodes and weights that take the mean over a standard normal variable."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


@dataclass(frozen=True)
class Beliefs:
    """What is believed of n log values, and which places may be chosen or run.

    mean, covariance: (n,), (n, n); noise: the error of one run; task: codes; alive: not known to fail;
    p_ok: chance that a run works.
    """

    mean: Floats
    covariance: Floats
    noise: float
    task: Numbers
    alive: NDArray[np.bool_]
    p_ok: Floats

    def moved(self) -> Floats:
        """How far each belief (column) moves per standard deviation of a run of each place (row)."""
        spread = np.sqrt(np.maximum(np.diag(self.covariance), 0.0) + self.noise**2)
        return np.asarray(self.covariance / spread[:, None])

    def chosen(self) -> Numbers:
        """The place with the highest mean, by task."""
        mean = np.where(self.alive, self.mean, -np.inf)
        order = np.lexsort((-mean, self.task))
        return np.asarray(order[np.flatnonzero(np.diff(self.task[order], prepend=-1))])


Rule = Callable[[Beliefs], Floats]
"""The worth (n,) of one run of each place."""


def gained(beliefs: Beliefs) -> Floats:
    """Knowledge gradient: expected rise of the best believed log value, summed over tasks (Frazier 2009)."""
    order = np.argsort(beliefs.task, kind="stable")
    starts = np.flatnonzero(np.diff(beliefs.task[order], prepend=-1))
    mean = np.where(beliefs.alive, beliefs.mean, -np.inf)[order]
    moved = beliefs.moved()[:, order]
    worth = np.zeros(len(mean))
    for node, weight in zip(*_normal_nodes(_COUNT), strict=True):
        after = np.maximum.reduceat(mean + node * moved, starts, axis=1)
        worth += weight * np.where(np.isfinite(after), after, 0.0).sum(axis=1)
    now = np.maximum.reduceat(mean, starts)
    return np.maximum(worth - now[np.isfinite(now)].sum(), 0.0)


def contrasts(beliefs: Beliefs) -> tuple[Floats, Floats, Numbers]:
    """Of each place against the chosen one of its task: expected improvement (n,), variance of the
    difference (n,), and that chosen place (n,)."""
    from scipy.special import ndtr

    best = beliefs.chosen()[np.unique(beliefs.task, return_inverse=True)[1].ravel()]
    c = beliefs.covariance
    diagonal = np.diag(c)
    variance = np.maximum(diagonal + diagonal[best] - 2 * c[np.arange(len(best)), best], 0.0)
    s = np.sqrt(variance) + _LEAST
    z = (beliefs.mean - beliefs.mean[best]) / s
    hope = s * (np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) + z * ndtr(z))
    good = beliefs.alive & beliefs.alive[best] & (best != np.arange(len(best)))
    return np.where(good, hope, 0.0), variance, best


def at_stake(beliefs: Beliefs) -> Floats:
    """How much of the uncertain contrasts one run settles, each weighed by the regret at stake in it."""
    hope, variance, best = contrasts(beliefs)
    moved = beliefs.moved()
    change = (moved - moved[:, best]) ** 2
    return np.asarray(change @ (hope / np.maximum(variance, _LEAST)))


def improved(beliefs: Beliefs) -> Floats:
    """Expected improvement on the chosen place, each task and place for itself."""
    hope, _, best = contrasts(beliefs)
    np.maximum.at(hope, best, hope * 0.999)
    left = np.diag(beliefs.covariance) / (np.diag(beliefs.covariance) + beliefs.noise**2)
    return np.asarray(hope * left)


def uncertain(beliefs: Beliefs) -> Floats:
    """Variance of the belief: what is least known, whatever hangs on it."""
    return np.asarray(np.diag(beliefs.covariance))
