"""Will the run work at all? Memory that must fit, and what kept failing in the history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns
from metainf.embed.layout import rows_of, text
from metainf.embed.remembering import coded, remembered
from metainf.learn.table import Table
from metainf.learn.views import Floats

STEEPNESS, MIDDLE = 30.0, -0.01
"""Fixed a priori: 0.57 where the need equals the memory, 0.95 at 10 % to spare, 0.02 at 1.15 times."""
FEWEST_FAILURES = 20
PULL = 2.0
"""Rows that the general success rate counts for against a combination's own."""
FEWEST_ALWAYS = 3
"""Failures without a success from which on a combination counts as always failing."""
COMBINATIONS = (
    ("engine", "device"),
    ("engine", "model"),
    ("engine", "weight_format"),
    ("engine", "kv_format"),
    ("engine", "attention_backend"),
    ("engine", "memory_mode"),
    ("engine", "speculative"),
    ("device", "weight_format"),
    ("model", "weight_format"),
)


@dataclass
class Failures:
    """P(works) = P(memory suffices) · the worst success rate among the row's combinations of names."""

    steepness: float = STEEPNESS
    middle: float = MIDDLE
    rates: dict[str, dict[str, float]] = field(default_factory=dict)

    @staticmethod
    def fit(table: Table, terms: Mapping[str, Floats]) -> "Failures":
        """From all rows, failed ones included. Failures that memory explains are not held against names."""
        self = Failures()
        slack = _slack(terms)
        if (~table.ok).sum() >= FEWEST_FAILURES:
            self.steepness, self.middle = _slope(slack[np.isfinite(slack)], table.ok[np.isfinite(slack)])
        blame = table.ok | (self._memory(slack) > 0.5)
        if table.ok[blame].all():
            return self
        base = float(table.ok[blame].mean())
        sure = self._learn(table, blame, base, always=True)
        rest = blame & ~sure
        if rest.any():
            self._learn(table, rest, float(table.ok[rest].mean()), always=False)
        return self

    def _learn(self, table: Table, rows: NDArray[np.bool_], base: float, always: bool) -> NDArray[np.bool_]:
        """Note the combinations that work less often than `base`; returns the rows they cover.

        What always failed is taken out first (always=True), so that it does not blacken its neighbours.
        """
        covered = np.zeros(len(table), dtype=np.bool_)
        for names in COMBINATIONS:
            keys, place = np.unique(_key(table.columns, names)[rows], return_inverse=True)
            good = np.bincount(place.ravel(), weights=table.ok[rows].astype(float))
            count = np.bincount(place.ravel())
            rate = (good + PULL * base) / (count + PULL)
            low = (good == 0) & (count >= FEWEST_ALWAYS) if always else rate < base
            covered[np.flatnonzero(rows)[low[place.ravel()]]] = True
            known = self.rates.setdefault("|".join(names), {})
            for key, value in zip(keys[low], rate[low], strict=True):
                known[str(key)] = min(float(value), known.get(str(key), 1.0))
        self.rates = {name: known for name, known in self.rates.items() if known}
        return covered

    def p_ok(self, columns: Columns, terms: Mapping[str, Floats]) -> Floats:
        """Probability in (0, 1) that each row works; unknown memory counts as enough."""
        found = self._memory(_slack(terms))
        worst = np.ones(rows_of(columns))
        for names, rates in self.rates.items():
            labels, place = _joined(*(text(columns, name) for name in names.split("|")))
            known = [rates.get(label, 1.0) for label in labels]
            if min(known, default=1.0) < 1.0:
                worst = np.minimum(worst, np.array(known)[place])
        return np.clip(found * worst, 1e-4, 1 - 1e-4)

    def _memory(self, slack: Floats) -> Floats:
        return np.where(
            np.isfinite(slack), _logistic(self.steepness * (np.nan_to_num(slack) - self.middle)), 1.0
        )


def _slack(terms: Mapping[str, Floats]) -> Floats:
    """log(memory / least need), NaN where the memory is not known."""
    found = np.log(terms["memory_gib"] / terms["least_gib"])
    return np.where(terms["memory_known"] > 0, found, np.nan)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))))


def _slope(slack: Floats, ok: NDArray[np.bool_]) -> tuple[float, float]:
    """Steepness and middle of least log loss, beside failures of other causes (a free rate).

    Every candidate puts at most 0.02 on a need of 1.15 times the memory.
    """
    best = (np.inf, STEEPNESS, MIDDLE)
    for middle in (-0.01, 0.0, 0.05, 0.1, 0.2, 0.3):
        for steepness in (STEEPNESS, 45.0, 60.0):
            memory = _logistic(steepness * (slack - middle))
            for other in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
                p = np.clip((1 - other) * memory, 1e-4, 1 - 1e-4)
                loss = -float(np.mean(np.where(ok, np.log(p), np.log(1 - p)))) if len(slack) else 0.0
                if loss < best[0] - 1e-12:
                    best = (loss, steepness, middle)
    return best[1], best[2]


def _key(columns: Columns, names: tuple[str, ...]) -> NDArray[Any]:
    """One name per combination, built from the distinct values of each column."""
    labels, place = _joined(*(text(columns, name) for name in names))
    return np.array(labels, dtype=np.str_)[place]


@remembered
def _joined(*names: NDArray[Any]) -> tuple[list[str], NDArray[np.intp]]:
    """Every combination of the columns' values, and the number of each row's."""
    labels, place = [""], np.zeros(len(names[0]), dtype=np.intp)
    for values, own in map(coded, names):
        place = place * len(values) + own
        labels = [f"{label}|{value}" for label in labels for value in values]
    return labels, place
