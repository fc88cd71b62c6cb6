"""Choosing under a limit when the errors of a cell's options are partly one and the same.

A forecast that is 10 % too fast for one option of a cell is mostly too fast for all of them. Then the
choice is not between independent gambles: in the worlds where everything is slower than forecast, only
cautious options meet the limit, and the best that could be had is less too. The score of an option is
the expected share of the best feasible value that it wins, over such worlds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metainf.learn.views import Floats

SHARED = 0.5
"""Share of the error's variance that the options of one cell have in common: half, a priori."""
WORLDS = 200
PLACE_WORLDS = 1000
"""More where nothing is common to all options: shares are closer, and a choice by chance costs more."""


@dataclass(frozen=True)
class Gambles:
    """n options of one cell: medians of the log value and of the log of the limit's metric, the log error
    of that metric, and how far the log value falls where it rises by 1; each (n,)."""

    log_value: Floats
    log_metric: Floats
    scale: Floats
    slope: Floats


def expected_share(options: Gambles, log_allowed: Floats, rng: np.random.Generator) -> Floats:
    """Log of the expected share of the best feasible value, (n, k), under each of k limits.

    Where next to no world has a feasible option, those with the least metric come first.
    """
    number = len(options.log_value)
    common, own = rng.standard_normal((WORLDS, 1)), rng.standard_normal((WORLDS, number))
    error = (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own) * options.scale
    return _shares(options, error, np.broadcast_to(log_allowed, (WORLDS, len(log_allowed))))


def expected_share_at(options: Gambles, places: Sequence[float], rng: np.random.Generator) -> Floats:
    """The same where a limit is known by its place, as a quantile, among the metrics of all n options.

    What the errors have in common moves the limit too and so drops out; `scale` is that of what is left,
    and each world has the limit that its own metrics give.
    """
    error = rng.standard_normal((PLACE_WORLDS, len(options.log_value))) * options.scale
    return _shares(options, error, np.quantile(options.log_metric + error, places, axis=1).T)


def _shares(options: Gambles, error: Floats, log_allowed: Floats) -> Floats:
    """Scores (n, k) over worlds of log errors (worlds, n) and of log limits (worlds, k)."""
    metric = options.log_metric + error
    value = np.exp(options.log_value - options.log_value.max() - options.slope * error)
    lag = np.clip(options.log_metric - options.log_metric.min(), 0.0, 20.0)
    found = np.empty((len(lag), log_allowed.shape[1]))
    for place in range(log_allowed.shape[1]):
        won = np.where(metric <= log_allowed[:, place, None], value, 0.0)
        best = won.max(axis=1)
        share = won[best > 0] / best[best > 0, None]
        found[:, place] = np.log(share.sum(axis=0) / len(error) + 1e-6 * np.exp(-lag))
    return found
