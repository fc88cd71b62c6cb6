"""Classics of algorithm selection: ISAC (Kadioglu 2010) and ALORS (Misir and Sebag 2017)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import MissingExtra
from metainf.learn.baselines import UNSEEN, Space, Utility, mean_known
from metainf.learn.table import Table
from metainf.learn.views import Floats, Options, View


class Isac:
    """Cluster the settings, and take in each cluster what was best on average there."""

    def __init__(self, clusters: int = 8) -> None:
        self.clusters = clusters

    def fit(self, train: Table, view: View) -> None:
        try:
            from sklearn.cluster import KMeans
        except ImportError:
            raise MissingExtra("the ISAC baseline", "evaluate") from None
        self.past = Utility.known(train, view)
        self.space = Space(train, self.past.cell_row)
        count = min(self.clusters, len(np.unique(self.space.points, axis=0)))
        self.means = KMeans(count, n_init=4, random_state=0).fit(self.space.points)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        past, fallback = self.past.of(told), mean_known(self.past.of(told))
        scores, index = np.empty((len(found.value), len(past))), self.past.index(found)
        cluster = self.means.predict(self.space.place(test, found.rows))
        for name in np.unique(cluster):
            local = mean_known(past[:, self.means.labels_ == name])
            blend = np.where(np.isfinite(local), local, 0.5 * fallback)
            scores[cluster == name] = self.past.spread(blend, index[cluster == name])
        return scores


class Alors:
    """Factorise the utilities into case and option factors; a forest predicts the factors of a new case."""

    def __init__(self, rank: int = 6, sweeps: int = 15, ridge: float = 1.0) -> None:
        self.rank, self.sweeps, self.ridge = rank, sweeps, ridge

    def fit(self, train: Table, view: View) -> None:
        try:
            from sklearn.ensemble import RandomForestRegressor
        except ImportError:
            raise MissingExtra("the ALORS baseline", "evaluate") from None
        self.past = Utility.known(train, view)
        self.space = Space(train, self.past.cell_row)
        self.fits = {
            told: [self._fit(part, RandomForestRegressor) for part in self.past.of(told)]
            for told in (False, True)
        }

    def _fit(self, utilities: Floats, forests: Any) -> tuple[Any, Floats]:
        cases, names = factorise(utilities, self.rank, self.sweeps, self.ridge)
        forest = forests(60, min_samples_leaf=2, random_state=0, n_jobs=1)
        return forest.fit(self.space.points, cases), names

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        index, cells = self.past.index(found), found.cells
        points = self.space.place(test, found.rows[[cell[0] for cell in cells]])
        scores = []
        for forest, names in self.fits[told]:
            laid = (forest.predict(points) @ names.T)[found.cell, index]
            scores.append(np.where(index >= 0, laid, UNSEEN))
        return np.stack(scores, axis=1)


def factorise(values: Floats, rank: int, sweeps: int, ridge: float) -> tuple[Floats, Floats]:
    """Alternating least squares of a matrix with gaps: (cases, rank) and (options, rank)."""
    rng = np.random.default_rng(0)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    left = rng.normal(0, 0.1, (values.shape[0], rank))
    right = rng.normal(0, 0.1, (values.shape[1], rank))
    left[:, 0] = 1.0
    for _ in range(sweeps):
        right = _solve(left, filled.T, known.T, ridge)
        left = _solve(right, filled, known, ridge)
    return left, right


def _solve(fixed: Floats, values: Floats, known: NDArray[np.bool_], ridge: float) -> Floats:
    rank = fixed.shape[1]
    result = np.empty((len(values), rank))
    for row in range(len(values)):
        here = fixed[known[row]]
        result[row] = np.linalg.solve(here.T @ here + ridge * np.eye(rank), here.T @ values[row, known[row]])
    return result
