"""What MetaInf must beat: rules that pick by what was best before.

A chooser is fitted on a training table under a view and gives each option of a test table a score for
each budget. The rules here know options by name; an option never seen scores below every known one.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metainf.learn.table import Table
from metainf.learn.views import Floats, Options, View, budgets, options

UNSEEN = -1.0


class Chooser(Protocol):
    """Fit on a training table, then score the options of a test table."""

    def fit(self, train: Table, view: View) -> None:
        """Learn from the training rows only."""

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        """Scores (m options, k budgets), higher is better. `told`: only feasible options will count."""


class Random:
    """Any option, with equal chance. Expected regret is reported over the seeds of the caller."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, train: Table, view: View) -> None:
        self.view = view

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        rng = np.random.default_rng(self.seed)
        return np.asarray(rng.random(budgets(found, self.view).shape))


class Oracle:
    """The best option there is: the virtual best solver. Looks at the answers, so it is a bound."""

    def fit(self, train: Table, view: View) -> None:
        self.view = view

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        within = found.limit[:, None] <= budgets(found, self.view)
        return np.where(within, found.value[:, None], -1.0)


class Utility:
    """Training utilities value/best in [0, 1] by case and option name; 0 where the budget is broken."""

    def __init__(self, train: Table, view: View) -> None:
        found = options(train, view)
        allowed = budgets(found, view)
        self.names = {name: place for place, name in enumerate(dict.fromkeys(found.name.tolist()))}
        self.number = np.array([self.names[name] for name in found.name.tolist()], dtype=np.intp)
        self.rows, self.found, self.cells = found.rows, found, found.cells
        cases = len(self.cells) * allowed.shape[1]
        self.untold = np.full((cases, len(self.names)), np.nan)
        self.told = np.full((cases, len(self.names)), np.nan)
        self.first = np.array([found.rows[cell[0]] for cell in self.cells], dtype=np.intp)
        for place, cell in enumerate(self.cells):
            for budget in range(allowed.shape[1]):
                within = found.limit[cell] <= allowed[cell, budget]
                share = found.value[cell] / found.value[cell][within].max()
                case = place * allowed.shape[1] + budget
                self.untold[case, self.number[cell]] = np.where(within, share, 0.0)
                self.told[case, self.number[cell]] = np.where(within, share, np.nan)
        self.case_row = np.repeat(self.first, allowed.shape[1])

    def of(self, told: bool) -> Floats:
        """Utilities (cases, names), NaN where the option was not there (or, told, not feasible)."""
        return self.told if told else self.untold

    def spread(self, by_name: Floats, found: Options, view: View) -> Floats:
        """Scores by option name, laid out on test options; unseen names get UNSEEN."""
        by_name = np.where(np.isfinite(by_name), by_name, UNSEEN)
        row = np.array([by_name[self.names[n]] if n in self.names else UNSEEN for n in found.name.tolist()])
        return np.repeat(row[:, None], budgets(found, view).shape[1], axis=1)


def mean_known(values: Floats) -> Floats:
    """Column means over the known entries, NaN for a column without any."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    blank = np.full(values.shape[1], np.nan)
    return np.asarray(np.divide(total, known.sum(axis=0), out=blank, where=known.any(axis=0)))


class SingleBest:
    """Always the option that was best on average (the single best solver, the static rule)."""

    def fit(self, train: Table, view: View) -> None:
        self.view, self.past = view, Utility(train, view)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        return self.past.spread(mean_known(self.past.of(told)), found, self.view)


class BestPerHardware:
    """The option that was best on average on the same device type; elsewhere the single best."""

    def fit(self, train: Table, view: View) -> None:
        self.view, self.past = view, Utility(train, view)
        self.device = train.keys["device"][self.past.case_row]

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        past = self.past.of(told)
        scores = self.past.spread(mean_known(past), found, self.view)
        device = test.keys["device"][found.rows]
        for name in np.unique(device):
            same = self.device == name
            if same.any():
                local = self.past.spread(mean_known(past[same]), found, self.view)
                here = (device == name)[:, None] & (local > UNSEEN)
                scores = np.where(here, local, scores * np.where((device == name)[:, None], 0.5, 1.0))
        return scores


class NearestSetting:
    """Utilities of the nearest training settings, weighted by closeness (k nearest neighbours)."""

    def __init__(self, k: int = 5) -> None:
        self.k = k

    def fit(self, train: Table, view: View) -> None:
        self.view, self.past = view, Utility(train, view)
        self.space = Space(train, self.past.case_row)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        past, fallback = self.past.of(told), mean_known(self.past.of(told))
        scores = np.full((len(found.value), budgets(found, self.view).shape[1]), UNSEEN)
        for cell in found.cells:
            gap = self.space.distance(test, found.rows[cell[0]])
            near = np.argsort(gap, kind="stable")[: self.k * scores.shape[1]]
            local = mean_known(past[near])
            blend = np.where(np.isfinite(local), local, 0.5 * fallback)
            scores[cell] = self.past.spread(blend, _some(found, cell), self.view)
        return scores


class Portfolio:
    """Greedy portfolio: options in the order in which each adds most to what the earlier ones reach."""

    def __init__(self, size: int = 25) -> None:
        self.size = size

    def fit(self, train: Table, view: View) -> None:
        self.view, self.past = view, Utility(train, view)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        past = np.nan_to_num(self.past.of(told), nan=0.0)
        reached, rank = np.zeros(len(past)), np.full(past.shape[1], np.nan)
        for place in range(min(self.size, past.shape[1])):
            gains = np.maximum(past, reached[:, None]).mean(axis=0)
            gains[np.isfinite(rank)] = -1
            best = int(np.argmax(gains))
            rank[best], reached = 2.0 - place / self.size, np.maximum(reached, past[:, best])
        rest = mean_known(self.past.of(told))
        return self.past.spread(np.where(np.isfinite(rank), rank, 0.5 * rest), found, self.view)


class Space:
    """Settings as standardised log features, and distances between them."""

    def __init__(self, train: Table, rows: NDArray[np.intp]) -> None:
        self.columns = [
            name
            for name in SETTING_FEATURES
            if name in train.columns and np.isfinite(train.columns[name][rows]).mean() > 0.5
        ]
        raw = self._raw(train, rows)
        self.middle, self.scale = np.nanmedian(raw, axis=0), np.nanstd(raw, axis=0) + 1e-9
        self.points = self.place(train, rows)

    def _raw(self, table: Table, rows: NDArray[np.intp]) -> Floats:
        logs = [np.log1p(np.abs(table.columns[name][rows])) for name in self.columns]
        return np.stack(logs, axis=1) if logs else np.zeros((len(rows), 0))

    def place(self, table: Table, rows: NDArray[np.intp]) -> Floats:
        """Coordinates (n, d) of settings; unknown numbers at the training median."""
        return np.asarray(np.nan_to_num((self._raw(table, rows) - self.middle) / self.scale, nan=0.0))

    def distance(self, table: Table, row: int) -> Floats:
        """Euclidean distance of one setting to every training setting."""
        return np.asarray(np.linalg.norm(self.points - self.place(table, np.array([row])), axis=1))


SETTING_FEATURES = (
    "params_b",
    "active_params_b",
    "num_layers",
    "hidden_size",
    "num_experts",
    "input_tokens",
    "output_tokens",
    "concurrency",
    "batch_size",
    "num_devices",
    "memory_gib",
    "memory_bandwidth_gb_per_s",
    "bf16_tflops",
    "fp8_tflops",
    "scaleup_gb_per_s",
    "tdp_w",
    "width_px",
    "steps",
)


def _some(found: Options, cell: NDArray[np.intp]) -> Options:
    return Options(
        found.cell[cell],
        tuple(found.members[i] for i in cell),
        found.name[cell],
        found.value[cell],
        found.limit[cell],
    )
