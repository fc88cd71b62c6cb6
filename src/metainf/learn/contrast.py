"""Predictors of one measured quantity that are made to tell the options of a cell apart.

What is learnt is a natural logarithm. Only differences inside a cell decide a choice, so the level of a cell
(a model on a device, whatever the method) is kept out of the way: the process gives each cell an intercept
of its own, the trees weigh its mean error down. Everything is deterministic.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from metainf.domain import BadInput
from metainf.embed.roofline import Kind, features, ideal, tokens
from metainf.learn import trees
from metainf.learn.process import MethodProcess, Numbers, Runs, Sample, one_hot
from metainf.learn.table import Table
from metainf.learn.views import Floats, View, load_of, options, value_of

Engine = Literal["process", "trees", "forest"]
LEVEL = 0.3
"""Weight of a cell's own level in the loss of the trees; 1 is ordinary squared error."""
ROUNDS, FOREST = 150, 100
NOISE, REPEAT_NOISE, CLIP = 0.03, 0.1, 3.0
LEAST_SPREADS = 10
LEAST_WORD = 3
_TREES = {
    "max_depth": 4, "eta": 0.1, "subsample": 0.8, "colsample_bynode": 0.5, "lambda": 3.0,
    "min_child_weight": 3, "tree_method": "hist", "max_bin": 64, "base_score": 0.0, "nthread": 1,
}  # fmt: skip
_FOREST = {
    "max_depth": 12, "eta": 1.0, "subsample": 0.63, "colsample_bynode": 0.3, "lambda": 0.3,
    "min_child_weight": 1.0, "tree_method": "hist", "max_bin": 64, "base_score": 0.0, "nthread": 1,
    "grow_policy": "lossguide", "max_leaves": 64,
}  # fmt: skip


@dataclass(frozen=True)
class History:
    """Training runs, told apart by all that is known of them, with what each measured."""

    runs: Runs
    value: Sample
    limit: Sample
    rows: Numbers
    """The first table row of each run."""
    place: Numbers
    """The run of each table row, −1 for a row that is no option of the view."""

    def take(self, kept: Numbers) -> "History":
        """The given runs; `place` is left as it is."""
        return History(
            self.runs.take(kept), self.value.take(kept), self.limit.take(kept), self.rows[kept], self.place
        )


def describe(table: Table, view: View) -> Runs:
    """The rows of a table as runs. What makes two options one under the view is a word of its own."""
    matrix, names = features(table.columns)
    keys = {"device": "device", "model": "model", "work": "workload", "source": "source"}
    labels = {label: table.keys[key] for label, key in keys.items()}
    return Runs(matrix, names, tokens(table.columns, table.keys[view.options]), labels)


def alike(runs: Runs, apart: Floats) -> tuple[Numbers, Numbers]:
    """Distinct runs: the first row of each, and the number of each row's run.

    Equal features, words and rows of `apart` (n, d) share one.
    """
    words: dict[frozenset[str], int] = {}
    word = np.array([words.setdefault(some, len(words)) for some in runs.words])
    matrix = np.column_stack([apart, word, np.nan_to_num(runs.matrix, nan=-1e9)])
    _, first, unit = np.unique(matrix, axis=0, return_index=True, return_inverse=True)
    return first, unit.ravel()


def history(table: Table, view: View) -> History:
    """What a table measures under a view, repeats merged. Raises BadInput where it offers no choice.

    Cells of one option count too: they tell what a method measures elsewhere. Without a limit the value
    stands in its place.
    """
    found = options(table, view, least=1)
    if len(found.value) == len(found.cells):
        raise BadInput(
            f"expected cells with several options that measure {view.name}, found none among {len(table)} "
            "rows: import some"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(value_of(table, view))
        limit = np.log(table.metrics[view.limit]) if view.limit else value
    rows = np.concatenate(found.members)
    cell = np.repeat(found.cell, [len(member) for member in found.members])
    above = np.isfinite(value[rows] + limit[rows])
    rows, cell = rows[above], cell[above]
    runs = describe(table.take(rows), view)
    first, unit = alike(runs, np.column_stack([cell, np.nan_to_num(load_of(table)[rows], nan=-1)]))
    groups = np.split(np.argsort(unit, kind="stable"), np.cumsum(np.bincount(unit))[:-1])
    count = np.array([float(len(group)) for group in groups])

    def sample(log: Floats) -> Sample:
        middle = log[rows[first]]
        for number in np.flatnonzero(count > 1):
            middle[number] = np.median(log[rows[groups[number]]])
        spread = np.array([np.std(log[rows[g]], ddof=1) if len(g) > 1 else np.nan for g in groups])
        return Sample(middle, count, spread, cell[first])

    place = np.full(len(table), -1, dtype=np.intp)
    place[rows] = unit
    return History(runs.take(first), sample(value), sample(limit), rows[first], place)


def cell_mean(values: Floats, cell: Numbers, weight: Floats) -> Floats:
    """Weighted mean of each row's cell."""
    total = np.bincount(cell, weights=values * weight)
    return np.asarray((total / np.maximum(np.bincount(cell, weights=weight), 1e-12))[cell])


def _cell_median(values: Floats, cell: Numbers) -> Floats:
    _, cell = np.unique(cell, return_inverse=True)
    order = np.argsort(cell.ravel(), kind="stable")
    parts = np.split(values[order], np.flatnonzero(np.diff(cell.ravel()[order])) + 1)
    return np.array([np.median(part) for part in parts])[cell.ravel()]


class RelativeTrees:
    """Trees under a squared error in which the mean error of a cell has the weight `level`.

    Boosted one after another, or a forest grown at once.
    """

    def __init__(self, level: float = LEVEL, forest: bool = False) -> None:
        self.level, self.forest = level, forest

    def fit(self, runs: Runs, target: Floats, cell: Numbers, weight: Floats) -> Self:
        counts = Counter(word for words in runs.words for word in words)
        kept = sorted(word for word, count in counts.items() if LEAST_WORD <= count < len(runs))
        self.words = {word: place for place, word in enumerate(kept)}
        self.sources = sorted(set(runs.labels["source"].tolist()))[1:]

        def loss(reached: Floats) -> tuple[Floats, Floats]:
            error = reached - target
            return weight * (error - (1 - self.level) * cell_mean(error, cell, weight)), weight

        grown = _FOREST | {"num_parallel_tree": FOREST} if self.forest else _TREES
        rounds = 1 if self.forest else ROUNDS
        self.trees = trees.Trees(trees.train(self._matrix(runs), target, grown, rounds, loss=loss))
        return self

    def predict(self, runs: Runs) -> Floats:
        """Predictions (n,), in the unit of the target."""
        return self.trees.predict(self._matrix(runs))

    def _matrix(self, runs: Runs) -> trees.Matrix:
        source = np.array([runs.labels["source"] == name for name in self.sources]).reshape(-1, len(runs)).T
        return np.column_stack([runs.matrix, one_hot(runs.words, self.words), source]).astype(np.float32)


class Relative:
    """Predicts the log of one measured quantity by one engine. Only the process leans on an ideal."""

    def __init__(self, kind: Kind, engine: Engine = "process") -> None:
        self.kind, self.engine = kind, engine

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
        if self.engine == "process":
            self.process = MethodProcess().fit(runs, target, sample.cell, noise)
        else:
            weight = 1.0 / (NOISE + noise)
            self.trees = RelativeTrees(forest=self.engine == "forest").fit(
                runs, target, sample.cell, weight / weight.mean()
            )
        return self

    def predict(self, runs: Runs) -> Floats:
        """Natural logs (n,)."""
        rest = self.process.predict(runs) if self.engine == "process" else self.trees.predict(runs)
        return np.asarray(self.slope * self._offset(runs) + self.middle + self.scale * rest)

    def _offset(self, runs: Runs) -> Floats:
        return ideal(runs.matrix, runs.names, self.kind if self.engine == "process" else "none")


def _slope(offset: Floats, target: Floats, cell: Numbers) -> float:
    """Slope of the target on the ideal inside cells, drawn to 1 where the ideal hardly varies."""
    one = np.ones(len(target))
    a, b = offset - cell_mean(offset, cell, one), target - cell_mean(target, cell, one)
    ridge = 0.01 * len(a)
    return float(np.clip((a @ b + ridge) / (a @ a + ridge), 0.0, 1.5))
