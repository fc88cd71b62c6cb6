"""Error of predicted numbers on settings never seen, and whether their intervals hold what they promise."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metainf.learn.forecast import Z90, Learner
from metainf.learn.splits import Fold
from metainf.learn.table import Table
from metainf.learn.views import PEER, Floats

JUDGED = (
    "tpot_s", "ttft_s", "e2e_s", "output_tokens_per_s", "images_per_s", "steps_per_s",
    "energy_j_per_token", "energy_j_per_request", "memory_gib",
)  # fmt: skip
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PEER_METRICS = ("ttft_s", "tpot_s")
DRAWN = 300
"""Points of the scatter of predicted against measured."""


def judged_metrics(table: Table) -> tuple[str, ...]:
    """The judged metrics that a table measures at all."""
    return tuple(name for name in JUDGED if np.isfinite(table.metrics[name]).any())


def accuracy(table: Table, held: Sequence[Fold], make: Callable[[], Learner]) -> list[dict[str, Any]]:
    """One row for each metric over all held-out rows (on "all"), and over those of a peer (on "peer")."""
    seen: dict[str, list[Floats]] = {}
    peer = np.isfinite(table.keys[PEER[1]]) if PEER[1] in table.keys else np.zeros(len(table), dtype=bool)
    for fold in held:
        forecast = make().fit(table.take(fold.train)).forecast(table.take(fold.test).columns)
        for metric in judged_metrics(table):
            if metric in forecast.log_median:
                with np.errstate(divide="ignore", invalid="ignore"):
                    true = np.log(table.metrics[metric][fold.test])
                known = forecast.log_median[metric], forecast.log_scale[metric]
                part = np.stack([true, *known, peer[fold.test]])
                seen.setdefault(metric, []).append(part[:, np.isfinite(part).all(axis=0)])
    found = []
    for metric, parts in seen.items():
        true, middle, scale, beside = np.concatenate(parts, axis=1)
        for on, rows in (("all", beside >= 0), ("peer", beside > 0)):
            if rows.any() and (on == "all" or metric in PEER_METRICS):
                found.append({"metric": metric, "on": on, **summary(true[rows], middle[rows], scale[rows])})
    return found


def summary(true: Floats, middle: Floats, scale: Floats) -> dict[str, Any]:
    """Absolute percentage errors, coverage and width of intervals, from natural logs (n,).

    width: median ratio of the upper to the lower bound of the 90 % interval. calibration: share of rows
    inside the interval of each nominal level.
    """
    from scipy.special import ndtri

    share, off = np.abs(np.expm1(middle - true)), np.abs(middle - true)
    picks = np.sort(np.random.default_rng(0).permutation(len(true))[:DRAWN])
    return {
        "rows": len(true),
        "median_ape": round(float(np.median(share)), 4),
        "mean_ape": round(float(share.mean()), 4),
        "coverage": round(float((off <= Z90 * scale).mean()), 4),
        "width": round(float(np.median(np.exp(2 * Z90 * scale))), 3),
        "calibration": [
            [level, round(float((off <= ndtri((1 + level) / 2) * scale).mean()), 4)] for level in LEVELS
        ],
        "points": [[float(f"{np.exp(true[i]):.4g}"), float(f"{np.exp(middle[i]):.4g}")] for i in picks],
    }
