"""Learners as choosers: the expected share of the best value, under errors that options share."""

from collections.abc import Callable
from copy import copy
from typing import ClassVar, Literal

import numpy as np

from metainf.domain import BadInput
from metainf.embed.columns import Columns
from metainf.embed.layout import num
from metainf.learn.forecast import Forecast, Learner
from metainf.learn.serving import ServingLearner
from metainf.learn.shared_error import Gambles, expected_share
from metainf.learn.table import Table
from metainf.learn.views import Floats, Options, View, budgets


class Learnt:
    """A learner as a chooser. Under a limit it scores an option by the expected share of the best feasible
    value (see `shared_error`); told what meets the limit, or without one, by the median value.
    """

    def __init__(self, make: Callable[[tuple[str, ...]], Learner]) -> None:
        self.make = make

    def fit(self, train: Table, view: View) -> None:
        self.view, self.learner = view, self.make(needed(view)).fit(train)

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        forecast = self.learner.forecast(test.columns)
        _require(forecast, self.view)
        value = found.merged(_log_value(forecast, test, self.view))
        allowed = budgets(found, self.view)
        if self.view.limit is None or told:
            return np.repeat(value[:, None], allowed.shape[1], axis=1)
        middle = found.merged(forecast.log_median[self.view.limit])
        scale = found.merged(forecast.log_scale[self.view.limit])
        slope = found.merged(_slope(forecast, test, self.view))
        scores, rng = np.empty(allowed.shape), np.random.default_rng(0)
        for cell in found.cells:
            options = Gambles(value[cell], middle[cell], np.maximum(scale[cell], 1e-3), slope[cell])
            scores[cell] = expected_share(options, np.log(allowed[cell[0]]), rng)
        return scores


class Remembered:
    """A serving learner that is fitted once for each training table, however many views ask for it.

    Without the residual it forecasts by the calibrated roofline of the same fit.
    """

    _fits: ClassVar[dict[tuple[str, int], ServingLearner]] = {}

    def __init__(self, unseen: Literal["model", "hardware"], residual: bool = True) -> None:
        self.unseen, self.residual = unseen, residual

    def fit(self, table: Table) -> ServingLearner:
        """The learner of this very table."""
        key = (self.unseen, hash(table.metrics["tpot_s"].tobytes()))
        if key not in self._fits:
            self._fits[key] = ServingLearner(self.unseen).fit(table)
        learner = copy(self._fits[key])
        if not self.residual:
            learner.shrink = dict.fromkeys(learner.shrink, 0.0)
        return learner

    def forecast(self, columns: Columns) -> Forecast:
        """Unfitted, so never asked."""
        raise NotImplementedError("call fit first: it returns the learner")


def needed(view: View) -> tuple[str, ...]:
    """The metrics that a view's value and limit are made of."""
    value = {
        "tokens_per_s_per_device": ("output_tokens_per_s",),
        "speed": ("tpot_s",),
        "energy": ("energy_j_per_token", "energy_j_per_request"),
        "prefill": ("prefill_tokens_per_s",),
    }.get(view.value, (view.value,))
    return (*value, view.limit) if view.limit else value


def _require(forecast: Forecast, view: View) -> None:
    """Raise BadInput where the learner found too few runs to learn what the view is made of."""
    wanted = [name for name in needed(view) if name not in forecast.log_median]
    either = view.value == "energy" and len(wanted) == 1 and wanted[0] != view.limit
    if wanted and not either:
        raise BadInput(f"expected runs enough to learn {', '.join(wanted)}, found too few: import more")


def _log_value(forecast: Forecast, table: Table, view: View) -> Floats:
    known = forecast.log_median
    if view.value == "tokens_per_s_per_device":
        return known["output_tokens_per_s"] - np.log(table.columns["num_devices"])
    if view.value == "speed":
        return -known["tpot_s"]
    if view.value == "energy":
        tokens = np.isfinite(table.metrics["energy_j_per_token"])
        per_token = known.get("energy_j_per_token", np.zeros(len(table)))
        return -np.where(tokens, per_token, known.get("energy_j_per_request", per_token))
    return known[needed(view)[0]]


def _slope(forecast: Forecast, table: Table, view: View) -> Floats:
    """How far the log value falls where the log of the limit's metric rises by 1: by Little's law the
    share of that metric in the end-to-end time for token rates, 0 for values of another kind."""
    if view.value != "tokens_per_s_per_device" or view.limit is None:
        return np.zeros(len(table))
    if view.limit == "e2e_s" or "e2e_s" not in forecast.log_median:
        return np.ones(len(table))
    tokens = np.maximum(num(table.columns, "output_tokens", 2.0) - 1, 1.0)
    share = np.exp(forecast.log_median[view.limit] - forecast.log_median["e2e_s"]) * tokens
    return np.asarray(np.clip(share, 0.0, 1.0))
