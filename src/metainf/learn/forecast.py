"""What a learner says of many settings at once, and the seam that every learner fills."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Estimate, Prediction
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
        middle, low, high = self.log_bounds(metric)
        return np.exp(middle), np.exp(low), np.exp(high)

    def log_bounds(self, metric: str) -> tuple[Floats, Floats, Floats]:
        """Logarithms of the median and of the 90 % bounds."""
        middle, half = self.log_median[metric], Z90 * self.log_scale[metric]
        return middle, middle - half, middle + half

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "Forecast":
        """Some of the rows."""
        return Forecast(
            {name: values[rows] for name, values in self.log_median.items()},
            {name: values[rows] for name, values in self.log_scale.items()},
            self.p_ok[rows],
            {name: values[rows] for name, values in self.basis.items()},
        )


def predictions(forecast: Forecast, rows: Sequence[int] | None = None) -> list[Prediction]:
    """Prediction values of a forecast's rows (all by default), without validation: the numbers are ours."""
    some = slice(None) if rows is None else np.asarray(rows, dtype=np.intp)
    names = list(forecast.log_median)
    middle = np.array([forecast.log_median[name][some] for name in names])
    half = Z90 * np.array([forecast.log_scale[name][some] for name in names])
    bounds = np.exp(np.stack([middle, middle - half, middle + half])).T.tolist()
    found = []
    for chance, row in zip(np.clip(forecast.p_ok[some], 0, 1).tolist(), bounds, strict=True):
        metrics = {}
        for metric, (value, low, high) in zip(names, row, strict=True):
            if value == value:
                metrics[metric] = Estimate.model_construct(value=value, low=low, high=high)
        found.append(Prediction.model_construct(p_ok=chance, metrics=metrics, reasons=(), nearest=()))
    return found


class Learner(Protocol):
    """Fit on a table, forecast any columns. Deterministic."""

    def fit(self, table: Table) -> "Learner":
        """Learn from measured and failed rows; the fitted learner, usually itself."""

    def forecast(self, columns: Columns) -> Forecast:
        """Predict; metrics that the training rows never had are absent."""
