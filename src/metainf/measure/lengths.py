"""Token counts and arrivals drawn by chance, so that a few requests already have the stated moments."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput, Lengths

STEADY = 1e-6
_NORMAL = NormalDist()
_P99 = _NORMAL.inv_cdf(0.99)
_P90 = _NORMAL.inv_cdf(0.90)


def spread(lengths: Lengths) -> float:
    """Sigma of the lognormal with these moments: from `std`, else from `p99` or `p90` over `p50`.

    0, all lengths equal, where none of them is stated.
    """
    if lengths.mean <= 0:
        return 0.0
    if lengths.std is not None:
        return math.sqrt(math.log1p((lengths.std / lengths.mean) ** 2))
    for top, at in ((lengths.p99, _P99), (lengths.p90, _P90)):
        if lengths.p50 and top and top > lengths.p50:
            return math.log(top / lengths.p50) / at
    return 0.0


def draw_lengths(lengths: Lengths, count: int, rng: np.random.Generator) -> list[int]:
    """`count` token counts of at least 1, lognormal, at most `max`, with the stated mean.

    One is drawn from each of `count` equal shares of the distribution, so that the moments of few requests
    are near the stated ones; the mean is then set right (to a token for each request). The spread falls short
    of `std` where few requests, or a near `max`, cannot reach it. BadInput for a mean above the `max`.
    """
    most = math.inf if lengths.max is None else max(lengths.max, 1.0)
    if lengths.mean > most:
        raise BadInput(f"lengths: expected a mean of at most the max, found {lengths.mean:g} and {most:g}")
    sigma, mean = spread(lengths), max(lengths.mean, 1.0)
    if sigma == 0 or count < 2:
        return [max(round(mean), 1)] * count
    shares = (rng.permutation(count) + rng.random(count)) / count
    normal = np.array([_NORMAL.inv_cdf(min(max(share, 1e-9), 1 - 1e-9)) for share in shares])
    values = _with_mean(np.exp(sigma * normal), mean, most)
    if lengths.std is not None and values.std() < lengths.std and math.isfinite(most):
        values = _with_spread(normal, sigma, lengths.std, most=most, mean=mean)
    return [int(value) for value in np.maximum(np.rint(values), 1)]


def _with_spread(
    normal: NDArray[np.float64], sigma: float, std: float, most: float, mean: float
) -> NDArray[np.float64]:
    """Values whose `most` cuts the tail, drawn apart (by at most half again) until their spread is `std`."""
    low, high = sigma, sigma * 1.5
    for _ in range(20):
        middle = (low + high) / 2
        if _with_mean(np.exp(middle * normal), mean, most).std() < std:
            low = middle
        else:
            high = middle
    return _with_mean(np.exp(high * normal), mean, most)


def _with_mean(values: NDArray[np.float64], mean: float, most: float) -> NDArray[np.float64]:
    """The values times a factor, each kept within 1 and `most`, such that their mean is `mean`."""
    low, high = 0.0, mean / float(values.min()) + 1.0
    for _ in range(60):
        factor = (low + high) / 2
        if float(np.clip(values * factor, 1.0, most).mean()) < mean:
            low = factor
        else:
            high = factor
    return np.clip(values * high, 1.0, most)


def draw_arrivals(
    rate_per_s: float, variation: float | None, count: int, rng: np.random.Generator
) -> list[float]:
    """`count` arrival times in seconds, the first at 0: gamma gaps with this coefficient of variation.

    A variation of 1, or none stated, is a Poisson process; 0 (below 1e-6) is a steady beat.
    """
    if not rate_per_s > 0 or not math.isfinite(rate_per_s):
        raise BadInput(f"request rate: expected requests per second above zero, found {rate_per_s}")
    cv = 1.0 if variation is None else variation
    gaps = np.full(count, 1 / rate_per_s)
    if cv > STEADY:
        gaps = rng.gamma(1 / cv**2, cv**2 / rate_per_s, size=count)
    times = np.cumsum(gaps) - (gaps[0] if count else 0.0)
    return [float(time) for time in times]
