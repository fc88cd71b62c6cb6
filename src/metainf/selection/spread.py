"""Predictive distributions over many candidates at once.

An estimate becomes a two-piece lognormal: its median is `value`, its 5th and 95th percentiles are `low`
and `high`, each side with a width of its own. Absent estimates are NaN throughout.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Estimate, Prediction

Floats = NDArray[np.float64]
Z90 = 1.6448536269514722  # standard normal quantile of 0.95
TINY = 1e-12
LOG_TINY = math.log(TINY)
MAX_WIDTH = 5.0


def normal_cdf(z: Floats) -> Floats:
    """Standard normal distribution function, elementwise; NaN stays NaN."""
    flat = np.ascontiguousarray(z, dtype=np.float64).ravel() / math.sqrt(2)
    return (0.5 * (1 + np.fromiter(map(math.erf, flat.tolist()), np.float64, len(flat)))).reshape(z.shape)


@dataclass(frozen=True)
class Spread:
    """Medians (log scale) and the widths below and above them, one entry per candidate."""

    log_median: Floats
    below: Floats
    above: Floats

    @classmethod
    def of(cls, predictions: Sequence[Prediction], metric: str) -> "Spread":
        """One metric of every prediction."""
        none = Estimate(value=1, low=1, high=1)
        found = [prediction.metrics.get(metric) for prediction in predictions]
        flat = [x for e in found for x in ((e or none).value, (e or none).low, (e or none).high)]
        table = np.array(flat, dtype=np.float64).reshape(len(found), 3)
        table[[e is None for e in found]] = np.nan
        return cls.from_bounds(table[:, 0], table[:, 1], table[:, 2])

    @classmethod
    def from_bounds(cls, value: Floats, low: Floats, high: Floats) -> "Spread":
        """From medians and 90 % bounds; bounds on the wrong side of the median count as equal to it."""
        return cls.from_logs(*(np.log(np.maximum(side, TINY)) for side in (value, low, high)))

    @classmethod
    def from_logs(cls, value: Floats, low: Floats, high: Floats) -> "Spread":
        """From the logarithms of medians and 90 % bounds."""
        middle, low, high = (np.maximum(side, LOG_TINY) for side in (value, low, high))
        below, above = (middle - low) / Z90, (high - middle) / Z90
        return cls(middle, np.clip(below, 0, MAX_WIDTH), np.clip(above, 0, MAX_WIDTH))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where an estimate is there."""
        return ~np.isnan(self.log_median)

    @property
    def median(self) -> Floats:
        """The medians on the natural scale."""
        return np.exp(self.log_median)

    def mean(self) -> Floats:
        """Expected value: E[exp(m + s|z|)] over both halves."""
        lower = np.exp(self.below**2 / 2) * normal_cdf(-self.below)
        upper = np.exp(self.above**2 / 2) * normal_cdf(self.above)
        return self.median * (lower + upper)

    def at_most(self, limit: float) -> Floats:
        """P(X <= limit)."""
        gap = math.log(max(limit, TINY)) - self.log_median
        width = np.where(gap < 0, self.below, self.above)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(width > 0, gap / width, np.where(gap >= 0, np.inf, -np.inf))
        z[~self.known] = np.nan
        return normal_cdf(z)

    def quantile(self, z: float) -> Floats:
        """The value at standard normal position z: z = 0 the median, 1.645 the upper bound."""
        return np.exp(self.log_median + z * (self.below if z < 0 else self.above))

    def inverse(self) -> "Spread":
        """The distribution of 1 / X."""
        return Spread(-self.log_median, self.above, self.below)

    def times(self, factor: Floats | float) -> "Spread":
        """The distribution of factor × X, factor positive."""
        return Spread(self.log_median + np.log(factor), self.below, self.above)

    def or_else(self, other: "Spread") -> "Spread":
        """This one, and the other where this one is not known."""
        mine = self.known
        return Spread(
            np.where(mine, self.log_median, other.log_median),
            np.where(mine, self.below, other.below),
            np.where(mine, self.above, other.above),
        )

    def plus(self, other: "Spread") -> "Spread":
        """Sum of two quantities that rise and fall together: medians and bounds add."""
        value = self.median + other.median
        low = self.quantile(-Z90) + other.quantile(-Z90)
        high = self.quantile(Z90) + other.quantile(Z90)
        return Spread.from_bounds(value, low, high)

    def estimate(self, index: int) -> Estimate | None:
        """One entry as an Estimate, None where it is not known."""
        if not bool(self.known[index]):
            return None
        middle, below, above = (float(side[index]) for side in (self.log_median, self.below, self.above))
        return Estimate(
            value=math.exp(middle), low=math.exp(middle - Z90 * below), high=math.exp(middle + Z90 * above)
        )
