"""What a learner says of many settings at once, and the seam that every learner fills."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from metainf.embed.columns import Columns
from metainf.learn.table import Table
from metainf.learn.views import Floats

Z90 = 1.6448536269514722


@dataclass(frozen=True)
class Forecast:
    """Predictive distributions of n rows: lognormal, by metric name (fields of Metrics).

    `log_median[m]` and `log_scale[m]` are (n,); the 90 % interval is exp(log_median ± 1.645 log_scale).
    `p_ok` is the probability that the run works at all. `basis` are the terms and calibrated parts that a
    served language model's forecast was made from (see `embed.physics` and `embed.prior`), for what builds
    on it.
    """

    log_median: dict[str, Floats]
    log_scale: dict[str, Floats]
    p_ok: Floats = field(default_factory=lambda: np.ones(0))
    basis: dict[str, Floats] = field(default_factory=dict)

    def bounds(self, metric: str) -> tuple[Floats, Floats, Floats]:
        """Median and 90 % bounds on the natural scale."""
        middle, half = self.log_median[metric], Z90 * self.log_scale[metric]
        return np.exp(middle), np.exp(middle - half), np.exp(middle + half)


class Learner(Protocol):
    """Fit on a table, forecast any columns. Deterministic."""

    def fit(self, table: Table) -> "Learner":
        """Learn from measured and failed rows; the fitted learner, usually itself."""

    def forecast(self, columns: Columns) -> Forecast:
        """Predict; metrics that the training rows never had are absent."""
