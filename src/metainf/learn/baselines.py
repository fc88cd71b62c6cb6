"""What MetaInf must beat: rules that pick by what was best before.

A chooser is fitted on a training table under a view and gives each option of a test table a score for
each budget. The rules here know options by name; an option never seen scores below every known one.
"""

from typing import ClassVar, Protocol

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
    """Any option, with equal chance: all scores are equal, so that the expectation is judged."""

    def fit(self, train: Table, view: View) -> None:
        self.view = view

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        return np.zeros(budgets(found, self.view).shape)


class Oracle:
    """The best option there is: the virtual best solver. Looks at the answers, so it is a bound."""

    def fit(self, train: Table, view: View) -> None:
        self.view = view

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        within = found.limit[:, None] <= budgets(found, self.view)
        return np.where(within, found.value[:, None], -1.0)


class Utility:
    """Training utilities value/best in [0, 1] by budget, cell and option name; 0 where a budget is broken.

    A budget is known by its place (25th, 50th, 75th percentile), so a rule may keep one answer for each.
    `Utility.known` shares the last one between rules that learn from the same table.
    """

    _last: ClassVar[tuple[Table, View, "Utility"] | None] = None

    @classmethod
    def known(cls, train: Table, view: View) -> "Utility":
        """The utilities of this very table under a view."""
        if cls._last is None or cls._last[0] is not train or cls._last[1] != view:
            cls._last = (train, view, cls(train, view))
        return cls._last[2]

    def __init__(self, train: Table, view: View) -> None:
        found = options(train, view)
        allowed = budgets(found, view)
        self.names = {name: place for place, name in enumerate(dict.fromkeys(found.name.tolist()))}
        number = np.array([self.names[name] for name in found.name.tolist()], dtype=np.intp)
        cells = found.cells
        shape = (allowed.shape[1], len(cells), len(self.names))
        self.untold, self.told = np.full(shape, np.nan), np.full(shape, np.nan)
        for place, cell in enumerate(cells):
            for budget in range(shape[0]):
                within = found.limit[cell] <= allowed[cell, budget]
                share = found.value[cell] / found.value[cell][within].max()
                self.untold[budget, place, number[cell]] = np.where(within, share, 0.0)
                self.told[budget, place, number[cell]] = np.where(within, share, np.nan)
        self.cell_row = np.array([found.rows[cell[0]] for cell in cells], dtype=np.intp)

    def of(self, told: bool) -> Floats:
        """Utilities (budgets, cells, names), NaN where the option was not there (or, told, not feasible)."""
        return self.told if told else self.untold

    def index(self, found: Options) -> NDArray[np.intp]:
        """Place of each option's name among the known ones, −1 where it is new."""
        return np.array([self.names.get(name, -1) for name in found.name.tolist()], dtype=np.intp)

    def spread(self, by_name: Floats, index: NDArray[np.intp], unseen: float = UNSEEN) -> Floats:
        """Scores (budgets, names) laid out on options of an `index` (m, budgets); unknown: `unseen`."""
        known = np.where(np.isfinite(by_name), by_name, unseen)
        return np.where(index[:, None] >= 0, known.T[index], unseen)


def mean_known(values: Floats) -> Floats:
    """Means over the cells (axis −2) of the known entries, NaN for a column without any."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=-2)
    blank = np.full(total.shape, np.nan)
    return np.asarray(np.divide(total, known.sum(axis=-2), out=blank, where=known.any(axis=-2)))


class SingleBest:
    """Always the option that was best on average, one for each budget (the single best solver).

    blind: when told what is feasible, it goes on ranking by averages that count broken budgets as 0.
    """

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind

    def fit(self, train: Table, view: View) -> None:
        self.past = Utility.known(train, view)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        return self.past.spread(mean_known(self.past.of(told and not self.blind)), self.past.index(found))


class FairBest:
    """The option with the best mean utility against the mean of its cells, drawn towards that mean.

    A mean over few cells says little: `weight` cells of the average are added to each option, and an
    option never seen counts as average, not as worst.
    """

    def __init__(self, weight: float = 3.0) -> None:
        self.weight = weight

    def fit(self, train: Table, view: View) -> None:
        self.past = Utility.known(train, view)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        past = self.past.of(told)
        known = np.isfinite(past)
        whole = np.where(known, past, 0.0).sum(axis=2, keepdims=True) / known.sum(axis=2, keepdims=True)
        ratio = np.where(known, past / whole, 0.0).sum(axis=1)
        return self.past.spread(
            (ratio + self.weight) / (known.sum(axis=1) + self.weight), self.past.index(found), 1.0
        )


class BestPerHardware:
    """The option that was best on average on the same device type; elsewhere the single best."""

    def fit(self, train: Table, view: View) -> None:
        self.past = Utility.known(train, view)
        self.device = train.keys["device"][self.past.cell_row]

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        past, index = self.past.of(told), self.past.index(found)
        scores = self.past.spread(mean_known(past), index)
        device = test.keys["device"][found.rows]
        for name in np.unique(device):
            same = self.device == name
            if same.any():
                local = self.past.spread(mean_known(past[:, same]), index)
                here = (device == name)[:, None] & (local > UNSEEN)
                scores = np.where(here, local, scores * np.where((device == name)[:, None], 0.5, 1.0))
        return scores


class NearestSetting:
    """Utilities of the nearest training settings, weighted by closeness (k nearest neighbours)."""

    def __init__(self, k: int = 5) -> None:
        self.k = k

    def fit(self, train: Table, view: View) -> None:
        self.past = Utility.known(train, view)
        self.space = Space(train, self.past.cell_row)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        past, fallback = self.past.of(told), mean_known(self.past.of(told))
        scores, index = np.full((len(found.value), len(past)), UNSEEN), self.past.index(found)
        for cell in found.cells:
            gap = self.space.distance(test, found.rows[cell[0]])
            near = np.argsort(gap, kind="stable")[: self.k]
            local = mean_known(past[:, near])
            blend = np.where(np.isfinite(local), local, 0.5 * fallback)
            scores[cell] = self.past.spread(blend, index[cell])
        return scores


class Portfolio:
    """Greedy portfolio: options in the order in which each adds most to what the earlier ones reach."""

    def __init__(self, size: int = 25) -> None:
        self.size = size

    def fit(self, train: Table, view: View) -> None:
        self.past = Utility.known(train, view)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        known = self.past.of(told)
        rest = mean_known(known)
        ranks = np.stack([self._ranks(np.nan_to_num(part, nan=0.0)) for part in known])
        return self.past.spread(np.where(np.isfinite(ranks), ranks, 0.5 * rest), self.past.index(found))

    def _ranks(self, past: Floats) -> Floats:
        reached, rank = np.zeros(len(past)), np.full(past.shape[1], np.nan)
        for place in range(min(self.size, past.shape[1])):
            gains = np.maximum(past, reached[:, None]).mean(axis=0)
            gains[np.isfinite(rank)] = -1
            best = int(np.argmax(gains))
            rank[best], reached = 2.0 - place / self.size, np.maximum(reached, past[:, best])
        return rank


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
