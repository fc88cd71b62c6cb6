"""The chance that a time stays below its limit. Pure."""

import math

import numpy as np

from metainf.swarm.schedule.learning import NOISE
from metainf.swarm.schedule.words import Floats, Ints, Rates


def spread_of(rates: Rates, at: tuple[Ints, Ints]) -> Floats:
    """Scale of the log of one time around what is expected of nodes of those kinds with those methods."""
    spread: Floats = np.hypot(NOISE, 0.5 * rates.spread[at])
    return spread


def below(expected: Floats, limit: float, spread: Floats) -> Floats:
    """The chance that a lognormal number of that median stays below the limit (logistic, for speed)."""
    if not math.isfinite(limit):
        return np.ones_like(expected)
    z = (math.log(max(limit, 1e-9)) - np.log(np.maximum(expected, 1e-9))) / spread
    chance: Floats = 1.0 / (1.0 + np.exp(-1.702 * z))
    return chance
