"""Methods compared inside settings: half a Gaussian process, half boosted trees, both blind to cell levels.

What is learnt is the log of a value less its roofline ideal (with a fitted slope). Only differences inside a
cell decide a choice, so each cell keeps an intercept of its own. Everything is deterministic.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput
from metainf.embed.roofline import Kind, features, ideal, tokens
from metainf.learn import trees
from metainf.learn.baselines import Chooser, SingleBest
from metainf.learn.process import MethodProcess, Numbers, Runs, Sample, one_hot
from metainf.learn.table import Table
from metainf.learn.views import Floats, Options, View, budgets, judge, load_of, options, value_of

LEVEL = 0.3
"""Weight of a cell's own level in the loss of the trees; 1 would be ordinary squared error."""
STAGES, ROUNDS = 25, 10
NOISE, REPEAT_NOISE, CLIP = 0.03, 0.1, 3.0
FOLDS = 3
LEAST_CELLS = 8
LEAST_SPREADS = 10
LEAST_WORD = 3
_TREES = {
    "max_depth": 4, "eta": 0.06, "subsample": 0.8, "colsample_bynode": 0.5, "lambda": 3.0,
    "min_child_weight": 3, "tree_method": "hist", "max_bin": 64, "base_score": 0.0, "nthread": 1,
}  # fmt: skip
_IDEAL: dict[str, Kind] = {
    "tokens_per_s_per_device": "rate_per_device", "speed": "speed", "energy": "energy",
    "tpot_s": "step", "e2e_s": "run",
}  # fmt: skip


def describe(table: Table) -> Runs:
    """The rows of a table as runs."""
    matrix, names = features(table.columns)
    keys = {"device": "device", "model": "model", "work": "workload", "source": "source"}
    labels = {label: table.keys[key] for label, key in keys.items()}
    return Runs(matrix, names, tokens(table.columns, table.keys["method"]), labels)


def cell_mean(values: Floats, cell: Numbers, weight: Floats) -> Floats:
    """Weighted mean of each row's cell."""
    total = np.bincount(cell, weights=values * weight)
    return np.asarray((total / np.maximum(np.bincount(cell, weights=weight), 1e-12))[cell])


def _cell_median(values: Floats, cell: Numbers) -> Floats:
    order = np.argsort(cell, kind="stable")
    parts = np.split(values[order], np.flatnonzero(np.diff(cell[order])) + 1)
    return np.array([np.median(part) for part in parts])[cell]


class RelativeTrees:
    """Boosted trees under a squared error in which the mean error of a cell has the weight `level`.

    Boosted in stages of ordinary squared error: between stages the residuals are taken anew, less
    (1 − level) of their cell means.
    """

    def __init__(self, level: float = LEVEL) -> None:
        self.level = level

    def fit(self, runs: Runs, target: Floats, cell: Numbers, weight: Floats) -> Self:
        counts = Counter(word for words in runs.words for word in words)
        kept = sorted(word for word, count in counts.items() if LEAST_WORD <= count < len(runs))
        self.words = {word: place for place, word in enumerate(kept)}
        self.sources = sorted(set(runs.labels["source"].tolist()))[1:]
        matrix, reached = self._matrix(runs), np.zeros(len(runs))
        self.stages: list[trees.Trees] = []
        for seed in range(STAGES):
            error = target - reached
            wanted = error - (1 - self.level) * cell_mean(error, cell, weight)
            stage = trees.Trees(trees.train(matrix, wanted, _TREES | {"seed": seed}, ROUNDS, weight))
            self.stages.append(stage)
            reached = reached + stage.predict(matrix)
        return self

    def predict(self, runs: Runs) -> Floats:
        """Predictions (n,), in the unit of the target."""
        matrix = self._matrix(runs)
        return np.asarray(sum((stage.predict(matrix) for stage in self.stages), np.zeros(len(runs))))

    def _matrix(self, runs: Runs) -> trees.Matrix:
        source = np.array([runs.labels["source"] == name for name in self.sources]).reshape(-1, len(runs)).T
        return np.column_stack([runs.matrix, one_hot(runs.words, self.words), source]).astype(np.float32)


class Relative:
    """Predicts the log of one measured quantity. `tree_share` 1 is trees alone, without roofline offset."""

    def __init__(self, kind: Kind, tree_share: float = 0.5, level: float = LEVEL) -> None:
        self.kind, self.share, self.level = kind, tree_share, level

    def fit(self, runs: Runs, sample: Sample) -> Self:
        offset = self._offset(runs)
        self.slope = _slope(offset, sample.log, sample.cell)
        rest = sample.log - self.slope * offset
        self.middle = float(np.mean(rest))
        level = _cell_median(rest, sample.cell)
        self.scale = max(1.5 * float(np.mean(np.abs(rest - level))), 0.02)
        rest = level + np.clip(rest - level, -CLIP * self.scale, CLIP * self.scale)
        target = (rest - self.middle) / self.scale
        seen, repeat = sample.spread[np.isfinite(sample.spread)], REPEAT_NOISE
        if len(seen) >= LEAST_SPREADS:
            repeat = float(np.clip((np.mean(seen) / self.scale) ** 2, 0.02, 4.0))
        noise = NOISE + repeat / sample.count
        weight = 1.0 / (NOISE + noise)
        if self.share > 0:
            self.trees = RelativeTrees(self.level).fit(runs, target, sample.cell, weight / weight.mean())
        if self.share < 1:
            self.process = MethodProcess().fit(runs, target, sample.cell, noise)
        return self

    def predict(self, runs: Runs) -> Floats:
        """Natural logs (n,)."""
        mean = np.zeros(len(runs))
        if self.share > 0:
            mean = mean + self.share * self.trees.predict(runs)
        if self.share < 1:
            mean = mean + (1 - self.share) * self.process.predict(runs)
        return np.asarray(self.slope * self._offset(runs) + self.middle + self.scale * mean)

    def _offset(self, runs: Runs) -> Floats:
        return ideal(runs.matrix, runs.names, "none" if self.share == 1 else self.kind)


def _slope(offset: Floats, target: Floats, cell: Numbers) -> float:
    """Slope of the target on the ideal inside cells, drawn to 1 where the ideal hardly varies."""
    one = np.ones(len(target))
    a, b = offset - cell_mean(offset, cell, one), target - cell_mean(target, cell, one)
    ridge = 0.01 * len(a)
    return float(np.clip((a @ b + ridge) / (a @ a + ridge), 0.0, 1.5))


class MethodChooser:
    """A chooser that predicts what each option would measure.

    Told: the predicted log value. Untold: log E[value × 1(limit ≤ budget)] under a lognormal limit, whose
    scale comes from folds inside the training table (by `by`, a key of the table).
    """

    def __init__(self, by: str = "model_group", tree_share: float = 0.5, level: float = LEVEL) -> None:
        self.by, self.share, self.level = by, tree_share, level

    def fit(self, train: Table, view: View) -> None:
        """Learn from the training rows. Raises BadInput where none measures what the view asks for."""
        self.view = view
        rows, self.value, self.limit = _samples(train, view)
        self.table = train.take(rows)
        self.runs = describe(self.table)
        self._value = self._learner(view.value).fit(self.runs, self.value)
        self._limit = self._learner(view.limit).fit(self.runs, self.limit) if view.limit else None
        self._spread: float | None = None

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        allowed = budgets(found, self.view)
        if not len(found.value):
            return np.zeros(allowed.shape)
        runs = describe(test.take(found.rows))
        value = np.repeat(self._value.predict(runs)[:, None], allowed.shape[1], axis=1)
        if self._limit is None or told:
            return value
        from scipy.special import log_ndtr

        gap = np.log(allowed) - self._limit.predict(runs)[:, None]
        return np.asarray(value + log_ndtr(gap / self.limit_scale()))

    def limit_scale(self) -> float:
        """Error scale (natural log) of the predicted limit on groups never seen, from training rows alone."""
        if self._spread is None:
            self._spread = self._cross_fitted()
        return self._spread

    def _learner(self, name: str | None) -> Relative:
        return Relative(_IDEAL.get(name or "", "none"), self.share, self.level)

    def _cross_fitted(self) -> float:
        fold = next(
            (
                dealt
                for key in (self.by, "device", "cell")
                if (dealt := deal(self.table.keys[key], FOLDS)).max() > 0
            ),
            None,
        )
        if fold is None:
            return float(np.std(self.limit.log)) + 1e-3
        error = np.zeros(len(fold))
        for number in range(int(fold.max()) + 1):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            learner = self._learner(self.view.limit).fit(self.runs.take(train), self.limit.take(train))
            error[test] = self.limit.log[test] - learner.predict(self.runs.take(test))
        return 1.4826 * float(np.median(np.abs(error))) + 1e-3


def deal(labels: NDArray[Any], most: int) -> Numbers:
    """Fold of each row: whole labels to at most `most` folds, the largest first to the emptiest."""
    names, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    filled, fold = np.zeros(min(most, len(names))), np.zeros(len(names), dtype=np.intp)
    for name in np.argsort(-sizes, kind="stable"):
        fold[name] = int(np.argmin(filled))
        filled[fold[name]] += sizes[name]
    return np.asarray(fold[place.ravel()])


def _samples(table: Table, view: View) -> tuple[Numbers, Sample, Sample]:
    """One row for each option of each cell, with its value and limit (the value again where no limit)."""
    value = value_of(table, view)
    limit = table.metrics[view.limit] if view.limit else value
    rows = np.flatnonzero((value > 0) & (limit > 0) & np.isfinite(value * limit) & table.ok)
    if not len(rows):
        raise BadInput(f"expected rows that measure {view.name}, found none among {len(table)}: import some")
    cells = table.keys["free_cell" if view.limit else "cell"]
    parts = (cells, table.keys["method"], table.columns["num_devices"], load_of(table))
    names: Sequence[str] = ["\t".join(str(part[row]) for part in parts) for row in rows]
    unit = np.unique(np.array(names), return_inverse=True)[1].ravel()
    order = np.argsort(unit, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(unit[order])) + 1)
    first = np.array([group[0] for group in groups], dtype=np.intp)
    cell = np.unique(cells[first], return_inverse=True)[1].ravel()
    count = np.array([float(len(group)) for group in groups])

    def sample(log: Floats) -> Sample:
        middle = np.array([np.median(log[group]) for group in groups])
        spread = np.array([np.std(log[g], ddof=1) if len(g) > 1 else np.nan for g in groups])
        return Sample(middle, count, spread, cell)

    with np.errstate(divide="ignore", invalid="ignore"):
        return first, sample(np.log(value)), sample(np.log(limit))


class SafeChooser:
    """The single best, trees or MethodChooser: whichever had the least mean regret inside the training table.

    Compared on at most three folds of whole `by` groups ("model_group", "device" ...). The single best
    where there are fewer than eight training cells or one group, and on a tie.
    """

    def __init__(self, by: str = "model_group") -> None:
        self.made: dict[str, Callable[[], Chooser]] = {
            "single best": SingleBest,
            "trees": lambda: MethodChooser(by, tree_share=1.0),
            "methods": lambda: MethodChooser(by),
        }
        self.by = by

    def fit(self, train: Table, view: View) -> None:
        self.train, self.view = train, view
        self.regret: dict[bool, dict[str, float]] = {}
        self.fitted: dict[str, Chooser] = {}

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        name = self.choice(told)
        if name not in self.fitted:
            self.fitted[name] = self.made[name]()
            self.fitted[name].fit(self.train, self.view)
        return self.fitted[name].score(test, found, told)

    def choice(self, told: bool) -> str:
        """The rule in use. Costs a fit of every rule on every inner fold, once."""
        told = told or self.view.limit is None
        if told not in self.regret:
            self.regret[told] = self._compare(told)
        regret = self.regret[told]
        return min(regret, key=lambda name: regret[name]) if regret else "single best"

    def _compare(self, told: bool) -> dict[str, float]:
        if len(options(self.train, self.view).cells) < LEAST_CELLS:
            return {}
        fold = deal(self.train.keys[self.by], FOLDS)
        regret: dict[str, list[float]] = {name: [] for name in self.made}
        for number in range(int(fold.max()) + 1):
            train, test = self.train.take(fold != number), self.train.take(fold == number)
            found = options(test, self.view)
            if not len(found.value) or not len(options(train, self.view).value):
                continue
            for name, make in self.made.items():
                chooser = make()
                chooser.fit(train, self.view)
                score = judge(found, budgets(found, self.view), chooser.score(test, found, told), told)
                regret[name] += score.regret.tolist()
        return {name: float(np.mean(values)) for name, values in regret.items() if values}
