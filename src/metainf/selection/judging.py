"""Scores and feasibility of a whole pool under a list of limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metainf.selection.scoring import Bools, Limit, Pool
from metainf.selection.spread import Floats


@dataclass(frozen=True)
class Judged:
    """Every candidate of a pool: its limits, its chance of meeting all, its score, and who is left."""

    pool: Pool
    limits: Sequence[Limit]
    p_feasible: Floats
    score: Floats
    feasible: Bools

    def without(self, label: str) -> "Judged":
        """The same pool as if one limit of the objective were not there."""
        return judge(self.pool, [limit for limit in self.limits if limit.label != label])


def judge(pool: Pool, bounds: Sequence[Limit]) -> Judged:
    """p_feasible = p_ok × Π P(limit met); score = p_feasible × value; feasible from the confidence up."""
    chance = pool.p_ok.copy()
    open_ = ~np.isnan(pool.value)
    for limit in bounds:
        chance *= np.where(limit.known, limit.probability, 0.0)
        open_ &= limit.known & limit.allowed
    score = chance * np.where(open_, pool.value, 0.0)
    feasible = open_ & (chance >= pool.objective.confidence) & (score > 0)
    return Judged(pool, bounds, chance, score, feasible)
