"""A Gaussian process over methods in settings: effects shared by all settings, and effects that vary.

The effect of a method is one part common to all settings (what an unseen setting gets) and parts that vary
with device, model, work, and with all three together; methods are alike as far as they share words. Each
cell has an intercept of its own, so that only differences inside a cell teach the effect (a partially
pooled, or empirical-Bayes, comparison of methods).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed.roofline import GROUPS
from metainf.learn.views import Floats

Numbers = NDArray[np.intp]
Singles = NDArray[np.float32]
HALF = np.float32(0.5)
SHARED, VARYING, JOINT, LINEAR, TREND = 0.5, 0.5, 0.5, 0.5, 0.5
"""Prior variances, in units of the variance of method effects. Fixed, not fitted."""
CELL_LEVEL = 4.0
WORD_SCALE, LOAD_SCALE, CONTEXT_SCALE = 4.0, 1.5, 1.5
MOST_ROWS = 1500


@dataclass(frozen=True)
class Runs:
    """What is known of n runs before they are measured. `labels`: device, model, work, source."""

    matrix: Floats
    names: tuple[str, ...]
    words: Sequence[frozenset[str]]
    labels: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.matrix)

    def take(self, rows: Numbers) -> "Runs":
        """The given rows."""
        labels = {key: values[rows] for key, values in self.labels.items()}
        return Runs(self.matrix[rows], self.names, [self.words[row] for row in rows], labels)


@dataclass(frozen=True)
class Sample:
    """Training targets: natural logs, median over repeats. `spread`: their deviation, NaN for one run."""

    log: Floats
    count: Floats
    spread: Floats
    cell: Numbers

    def take(self, rows: Numbers) -> "Sample":
        """The given rows, cells numbered anew."""
        cell = np.unique(self.cell[rows], return_inverse=True)[1].ravel()
        return Sample(self.log[rows], self.count[rows], self.spread[rows], cell)


def one_hot(words: Sequence[frozenset[str]], places: dict[str, int]) -> Floats:
    """Which known words each method has, (n, k)."""
    found = np.zeros((len(words), len(places)))
    for row, some in enumerate(words):
        for word in some:
            if word in places:
                found[row, places[word]] = 1.0
    return found


class MethodProcess:
    """Posterior mean of standardised log values under the kernel above."""

    def fit(self, runs: Runs, target: Floats, cell: Numbers, noise: Floats) -> "MethodProcess":
        """target: (n,), about unit scale. cell: codes. noise: variance of each target.

        More than MOST_ROWS rows are thinned by whole cells, in a fixed shuffled order.
        """
        from scipy.linalg import cho_factor, cho_solve

        rows = np.arange(len(target))
        if len(target) > MOST_ROWS:
            order = np.random.default_rng(0).permutation(int(cell.max()) + 1)[cell]
            rows = np.sort(np.argsort(order, kind="stable")[:MOST_ROWS])
        self.words = {word: i for i, word in enumerate(sorted(set().union(*runs.words)))}
        self._standardise(runs)
        self.runs = runs.take(rows)
        self.view = self._describe(self.runs)
        kernel = self._kernel(self.runs, self.view, self.runs, self.view).astype(np.float64)
        kernel += CELL_LEVEL * (cell[rows][:, None] == cell[rows])
        kernel[np.diag_indices_from(kernel)] += noise[rows]
        factor = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
        self.weights = cho_solve(factor, target[rows], check_finite=False)
        return self

    def predict(self, runs: Runs) -> Floats:
        """Posterior mean (n,)."""
        return np.asarray(self._kernel(runs, self._describe(runs), self.runs, self.view) @ self.weights)

    def _standardise(self, runs: Runs) -> None:
        known = np.isfinite(runs.matrix)
        count = np.maximum(known.sum(axis=0), 1)
        self.middle = np.where(known, runs.matrix, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, runs.matrix - self.middle, 0.0) ** 2).sum(axis=0) / count)
        self.spread = np.where(spread > 1e-6, spread, 1.0)

    def _describe(self, runs: Runs) -> tuple[Singles, ...]:
        """Standardised features, load features as they are, words, and number of words."""
        points = np.clip(np.nan_to_num((runs.matrix - self.middle) / self.spread), -4, 4)
        load = np.nan_to_num(runs.matrix[:, _places(runs.names, "load")])
        sizes = np.array([len(some) for some in runs.words], dtype=np.float64)
        found = (points, load, one_hot(runs.words, self.words), sizes)
        return tuple(part.astype(np.float32) for part in found)

    def _kernel(self, left: Runs, a: tuple[Singles, ...], right: Runs, b: tuple[Singles, ...]) -> Singles:
        points_a, load_a, words_a, size_a = a
        points_b, load_b, words_b, size_b = b
        apart = np.maximum(size_a[:, None] + size_b - 2 * words_a @ words_b.T, 0.0)
        near = _gauss(load_a, load_b, LOAD_SCALE)
        config = np.exp(-apart / WORD_SCALE) * (0.3 + 0.7 * near)
        alike: dict[str, Singles] = {}
        for group in ("device", "model", "work"):
            columns = _places(left.names, group)
            width = CONTEXT_SCALE * float(np.sqrt(len(columns) / 2))
            same = left.labels[group][:, None] == right.labels[group]
            alike[group] = HALF * _gauss(points_a[:, columns], points_b[:, columns], width) + HALF * same
        joint = alike["device"] * alike["model"] * alike["work"]
        effect = config * (SHARED + VARYING * sum(alike.values()) + JOINT * joint)
        trend = _gauss(load_a, load_b, 1.5 * LOAD_SCALE) * (0.3 + 0.7 * alike["device"] * alike["model"])
        straight = points_a @ points_b.T / points_a.shape[1]
        source = np.float32(0.3) + np.float32(0.7) * (
            left.labels["source"][:, None] == right.labels["source"]
        )
        return np.asarray(source * (effect + TREND * trend + LINEAR * straight + joint))


def _places(names: tuple[str, ...], group: str) -> list[int]:
    return [names.index(name) for name in GROUPS[group]]


def _gauss(a: Singles, b: Singles, scale: float) -> Singles:
    apart = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-0.5 * np.maximum(apart, 0.0) / scale**2))
