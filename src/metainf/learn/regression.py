"""Plain regressions on the joint embedding: the paper's own design, and its usual rivals.

Each metric is learnt on its logarithm from the rows that measured it. The scale of the error comes
from grouped out-of-fold residuals, so that it speaks of models never seen.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Self

import numpy as np

from metainf.domain import MissingExtra
from metainf.embed.columns import Columns
from metainf.embed.joint import Joint, Kind
from metainf.learn import trees
from metainf.learn.forecast import Forecast
from metainf.learn.table import METRICS, Table
from metainf.learn.views import Floats

Fitter = Callable[[trees.Matrix, Floats], Callable[[trees.Matrix], Floats]]
LEAST_ROWS = 30
FOLDS = 2


def boosted(features: trees.Matrix, target: Floats) -> Callable[[trees.Matrix], Floats]:
    """The paper's XGBoost regressor, with common settings fixed a priori."""
    options = {"max_depth": 6, "eta": 0.1, "subsample": 0.8, "colsample_bytree": 0.8, "nthread": 1}
    return trees.Trees(trees.train(features, target, options, 200)).predict


def forest(features: trees.Matrix, target: Floats) -> Callable[[trees.Matrix], Floats]:
    """A random forest of 60 trees over half the features each; unknown numbers become −1."""
    options = {"min_samples_leaf": 2, "max_features": 0.5, "random_state": 0, "n_jobs": 1}
    ensemble = _sklearn("ensemble").RandomForestRegressor(60, **options)
    model = ensemble.fit(np.nan_to_num(features, nan=-1), target)
    return lambda rows: np.asarray(model.predict(np.nan_to_num(rows, nan=-1)))


def gradient(features: trees.Matrix, target: Floats) -> Callable[[trees.Matrix], Floats]:
    """Histogram gradient boosting of scikit-learn with its defaults, on features that vary; one thread."""
    filled = np.nan_to_num(features, nan=-1)
    varies = np.ptp(filled, axis=0) > 0
    learner, one_thread = _sklearn("ensemble").HistGradientBoostingRegressor(random_state=0), _one_thread()
    with one_thread():
        model = learner.fit(filled[:, varies], target)

    def predict(rows: trees.Matrix) -> Floats:
        with one_thread():
            return np.asarray(model.predict(np.nan_to_num(rows, nan=-1)[:, varies]))

    return predict


def _one_thread() -> Callable[[], Any]:
    """A context in which OpenMP has one thread: small fits lose more by waiting for others than they gain."""
    return partial(_module("threadpoolctl").threadpool_limits, 1)


def _sklearn(part: str) -> Any:
    return _module(f"sklearn.{part}")


def _module(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise MissingExtra("this baseline", "evaluate") from None


class Regression:
    """One regression for each metric, or only for the metrics named in `only`."""

    def __init__(
        self, fitter: Fitter = boosted, kind: Kind = "classical", only: Collection[str] = METRICS
    ) -> None:
        self.fitter, self.kind, self.only = fitter, kind, only

    def fit(self, table: Table) -> Self:
        self.joint = Joint.fit(table.columns, self.kind)
        features = self.joint.matrix(table.columns)
        groups = np.unique(table.keys["model_group"], return_inverse=True)[1].ravel() % FOLDS
        self.models, self.scale = {}, {}
        for metric in METRICS:
            rows = np.isfinite(table.metrics[metric]) & (table.metrics[metric] > 0)
            if rows.sum() < LEAST_ROWS or metric == "quality" or metric not in self.only:
                continue
            x, y = features[rows], np.log(table.metrics[metric][rows])
            self.models[metric] = self.fitter(x, y)
            self.scale[metric] = self._spread(x, y, groups[rows])
        return self

    def _spread(self, x: trees.Matrix, y: Floats, groups: Any) -> float:
        """Robust scale of grouped out-of-fold residuals (interquartile range / 1.349)."""
        residual = []
        for fold in np.unique(groups):
            train = groups != fold
            if train.sum() >= LEAST_ROWS:
                residual.append(self.fitter(x[train], y[train])(x[~train]) - y[~train])
        if not residual:
            return float(np.std(y) + 1e-3)
        low, high = np.quantile(np.concatenate(residual), (0.05, 0.95))
        return float((high - low) / 3.29 + 1e-3)

    def forecast(self, columns: Columns) -> Forecast:
        features = self.joint.matrix(columns)
        means = {metric: model(features) for metric, model in self.models.items()}
        scales = {metric: np.full(len(features), self.scale[metric]) for metric in means}
        return Forecast(means, scales, np.ones(len(features)))
