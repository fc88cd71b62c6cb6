"""The prior's efficiencies from runs: robust least squares in log space, pulled to a-priori values."""

import numpy as np
from numpy.typing import NDArray

from metainf.embed import prior
from metainf.learn.views import Floats

PULL = 6.0
"""Strength with which the efficiencies are held at their a-priori values."""
TTFT_WEIGHT = 0.5
ROUNDS = 15
_STEP = 1e-4


def calibrate(
    t: dict[str, Floats], engine: NDArray[np.intp], y: dict[str, Floats], weights: Floats
) -> Floats:
    """Log efficiencies of the prior, in the order of `prior.NAMES`.

    y: log seconds by target. An efficiency of one engine moves the rows of that engine alone, so the
    three of a kind share one finite difference.
    """
    from scipy.optimize import least_squares

    root, rows = np.sqrt(weights), len(weights)
    owner = np.array([_owner(name) for name in prior.NAMES])
    kinds = [name.partition(":")[0] for name in prior.NAMES]
    together = [np.array([i for i, k in enumerate(kinds) if k == kind]) for kind in dict.fromkeys(kinds)]

    def misfit(theta: Floats) -> Floats:
        out = prior.parts(t, engine, theta)
        first = np.log(out["ttft"]) - y["ttft"]
        return np.concatenate([root * (np.log(out["tpot"]) - y["tpot"]), root * TTFT_WEIGHT * first])

    def residual(theta: Floats) -> Floats:
        return np.concatenate([misfit(theta), PULL * (theta - prior.THETA) / prior.WIDTH])

    def jacobian(theta: Floats) -> Floats:
        here, slope = misfit(theta), np.zeros((2 * rows + len(theta), len(theta)))
        for same in together:
            moved = theta.copy()
            moved[same] += _STEP
            change = (misfit(moved) - here) / _STEP
            for i in same:
                mine = np.ones(rows) if owner[i] < 0 else _share(engine, owner[i])
                slope[: 2 * rows, i] = change * np.tile(mine, 2)
        slope[2 * rows + np.arange(len(theta)), np.arange(len(theta))] = PULL / prior.WIDTH
        return slope

    found = least_squares(residual, prior.THETA, jac=jacobian, loss="soft_l1", f_scale=0.15, max_nfev=ROUNDS)
    return np.asarray(found.x)


def _owner(name: str) -> int:
    """Number of the engine whose efficiency this is; -1 where all engines share it."""
    engine = name.partition(":")[2]
    return prior.ENGINES.index(engine) if engine else -1


def _share(engine: NDArray[np.intp], owner: int) -> Floats:
    """How far a row follows the efficiency of one engine: other engines take the mean of all."""
    other = len(prior.ENGINES)
    return np.where(engine == owner, 1.0, np.where(engine == other, 1.0 / other, 0.0))
