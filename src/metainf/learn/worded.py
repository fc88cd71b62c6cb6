"""The paper's own idea as an ablation: XGBoost on language-model vectors of what a run is, in words."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metainf.learn.learnt import Learnt
from metainf.learn.regression import Regression, boosted
from metainf.learn.table import TEXTS, Table
from metainf.learn.views import Floats, Options, View

WIDTH = 24
"""Principal components kept of each described part; fitted on the training rows alone."""


class Worded:
    """Vectors of the descriptions of model, workload, hardware and method, reduced, under boosted trees.

    `words` has the vector of every description in a table's text keys. `classical` adds meta-features.
    """

    def __init__(self, words: Mapping[str, NDArray[np.float32]], classical: bool) -> None:
        self.words, self.classical = words, classical

    def fit(self, train: Table, view: View) -> None:
        self.axes = {part: self._axes(train.keys[part]) for part in TEXTS}
        self.inner = Learnt(lambda only: Regression(boosted, "classical", only))
        self.inner.fit(self._worded(train), view)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        return self.inner.score(self._worded(test), found, told)

    def _axes(self, texts: NDArray[np.object_]) -> tuple[Floats, Floats]:
        """Mean and principal axes of the distinct texts."""
        vectors = np.stack([self.words[text] for text in sorted(set(texts.tolist()))]).astype(np.float64)
        middle = vectors.mean(axis=0)
        _, _, axes = np.linalg.svd(vectors - middle, full_matrices=False)
        return middle, axes[:WIDTH]

    def _worded(self, table: Table) -> Table:
        columns = dict(table.columns) if self.classical else {"num_devices": table.columns["num_devices"]}
        for part in TEXTS:
            texts, place = np.unique(table.keys[part], return_inverse=True)
            middle, axes = self.axes[part]
            reduced = (np.stack([self.words[text] for text in texts.tolist()]) - middle) @ axes.T
            for number, values in enumerate(reduced[place.ravel()].T):
                columns[f"{part}.{number}"] = values
        return Table(columns, table.metrics, table.ok, table.keys)
