"""Power and energy of serving language models: an energy roofline calibrated on measured runs.

A device draws a constant share of its TDP while it serves, and beyond it a share that saturates with the
work done in a second (the energy roofline of Choi et al. 2013, "A roofline model of energy"):

    power / TDP = base + (1 - base) · (1 - exp(-Σ cost · utilisation))

Utilisations are ideal device-seconds of a kind of work (weights read, cache read, arithmetic) per second.
Costs are fitted in log space, pulled to 1. Number formats of at most 8 bits have a factor of their own.
The width of an interval comes from whole models and devices held out; that of energy also from runs whose
rate was predicted by a learner that never saw their model. A device without a TDP in the
catalogue has no prediction.
"""

from collections.abc import Callable, Collection
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.domain import ArtifactError, BadInput
from metainf.embed.columns import Columns
from metainf.embed.layout import by_name, num
from metainf.embed.physics import stated_load, terms
from metainf.learn.conformal import new_group_factor, row_weights, weighted_quantile
from metainf.learn.forecast import Z90, Forecast
from metainf.learn.table import Table
from metainf.learn.views import Floats

NAMES = ("base", "weights", "cache", "arithmetic", "low_bits")
START = np.log(np.array([0.2, 1.0, 1.0, 1.0, 1.0]))
WIDTH = np.array([0.5, 0.7, 0.7, 0.7, 0.4])
PROMPT_TOKENS, PROMPT_WIDTH = 256.0, 1.0
"""A-priori length of prompts where a source does not state it (fitted for each workload), log width."""
IDLE_SHARE = 0.1
"""Share of the TDP that a device draws between requests of an open loop: an estimate of ours."""
COVERAGE = 0.9
FEWEST_ROWS = 30
FOLDS = 10
SIDES = {"model": "model_group", "hardware": "device"}
Work = dict[str, Floats]
Ask = Callable[[Columns], Forecast]


def work(t: dict[str, Floats]) -> Work:
    """Ideal device-seconds of each kind of work for one output token, from the terms of `physics`."""
    per_token = t["w"] / t["b"]
    prefill = (t["p_flop"] + t["p_attn"]) * t["wp"] / t["osl"]
    return {
        "weights": (t["t_dense"] + t["t_moe"]) * per_token,
        "cache": t["t_kv"] * per_token,
        "arithmetic": (t["t_flop"] + t["t_attn"]) * per_token,
        "prefill": prefill,
        "low": np.where(t["bits"] <= 8.5, 1.0, 0.0),
    }


def devices_of(columns: Columns, t: dict[str, Floats]) -> Floats:
    """Devices of a run: as stated, else those of the parallel layout."""
    prefill = np.where(t["disagg"] > 0, t["wp"] * t["np"], 0.0)
    return num(columns, "num_devices", t["w"] * t["stages"] * t["nd"] + prefill)


def share_of_tdp(theta: Floats, done: Work, tokens_per_s: Floats) -> Floats:
    """Power of a busy device as a share of its TDP; `tokens_per_s` are output tokens per device."""
    base, weights, cache, arithmetic, low = np.exp(theta[: len(NAMES)])
    cost = np.where(done["low"] > 0, low, 1.0)
    each = cost * weights * done["weights"] + cache * done["cache"]
    each = each + cost * arithmetic * (done["arithmetic"] + done["prefill"])
    return np.asarray(base - (1 - base) * np.expm1(-each * tokens_per_s))


class EnergyLearner:
    """Adds power_w (all devices together), energy_j_per_token and energy_j_per_request to a forecast."""

    def fit(self, table: Table) -> Self:
        """Learn from runs that measured joules per output token and their rate.

        Raises BadInput where fewer than 30 such runs, or fewer than two models or devices, are there.
        """
        rows = measured(table)
        groups = {side: table.keys[key][rows] for side, key in SIDES.items()}
        if len(rows) < FEWEST_ROWS or min(len(np.unique(g)) for g in groups.values()) < 2:
            raise BadInput(
                f"expected at least {FEWEST_ROWS} runs with energy per token, of two or more models and "
                f"devices; found {len(rows)}: import more runs"
            )
        data = Measurements.of(table.take(rows))
        self.theta = data.fit(np.ones(len(rows), dtype=np.bool_))[: len(NAMES)]
        self.known = {side: frozenset(np.unique(g).tolist()) for side, g in groups.items()}
        self.stretch = 1.0
        self.quantile = {}
        for side, g in groups.items():
            left = data.held_out(folds_of(g))
            weights = row_weights(g, np.stack([data.share, data.rate], axis=1))
            width = weighted_quantile(np.abs(left), weights, COVERAGE)
            self.quantile[side] = width * new_group_factor(left, g, COVERAGE)
        return self

    def calibrate(self, table: Table, rated: Ask, known_models: Collection[str]) -> Self:
        """Widen energy per token until 90 % of the runs are inside whose rate is predicted, not measured.

        Only runs of models count whose rate `rated` never learnt. Fewer than 30 leave the width as it is.
        """
        rows = measured(table)
        rows = rows[~np.isin(table.keys["model_group"][rows], sorted(known_models))]
        if len(rows) < FEWEST_ROWS:
            return self
        few = table.take(rows)
        said = self.add(few.columns, rated(few.columns))
        actual = np.log(few.metrics["energy_j_per_token"])
        left = np.abs(said.log_median["energy_j_per_token"] - actual) / said.log_scale["energy_j_per_token"]
        weights = row_weights(few.keys["model_group"], np.exp(actual)[:, None])
        self.stretch *= max(weighted_quantile(left, weights, COVERAGE) / Z90, 1.0)
        return self

    def add(self, columns: Columns, forecast: Forecast) -> Forecast:
        """The forecast with power and energy; NaN where the device's TDP is not known.

        A faster run draws more power in less time, so an error of the rate counts only by the share of
        the energy that does not depend on the work.
        """
        t = forecast.basis
        rate, spread = forecast.log_median["output_tokens_per_s"], forecast.log_scale["output_tokens_per_s"]
        devices, done = devices_of(columns, t), work(t)
        e2e = np.exp(forecast.log_median["e2e_s"])
        busy = np.minimum(np.exp(rate) / t["osl"] * e2e, 1.0)
        each = np.exp(rate) / devices / np.maximum(busy, 1e-6)
        share = share_of_tdp(self.theta, done, each)
        slope = np.log(share_of_tdp(self.theta, done, each * 1.01) / share) / np.log(1.01)
        share = busy * share + (1 - busy) * IDLE_SHARE
        power = np.log(devices * num(columns, "tdp_w", np.nan) * share)
        size = self._size(columns)
        median, scale = dict(forecast.log_median), dict(forecast.log_scale)
        median["power_w"], scale["power_w"] = power, np.hypot(size, slope * spread)
        median["energy_j_per_token"] = power - rate
        median["energy_j_per_request"] = power - rate + np.log(t["osl"])
        width = self.stretch * np.hypot(size, (1 - slope) * spread)
        scale["energy_j_per_token"] = scale["energy_j_per_request"] = width
        return Forecast(median, scale, forecast.p_ok, t)

    def _size(self, columns: Columns) -> Floats:
        """Log scale of the power: the held-out error of the new side, of both where both are new."""
        models, devices = self.known["model"], self.known["hardware"]
        old = by_name(columns["device"], lambda name: name in devices) > 0
        new_model = by_name(columns["model"], lambda name: catalog.model_group(name) not in models) > 0
        model, hardware = self.quantile["model"] / Z90, self.quantile["hardware"] / Z90
        return np.where(old, model, np.where(new_model, np.hypot(model, hardware), hardware))

    def dump(self) -> dict[str, Any]:
        """JSON-able state; `load` restores the same forecasts."""
        return {
            "kind": "energy",
            "theta": dict(zip(NAMES, self.theta.tolist(), strict=True)),
            "quantile": self.quantile,
            "stretch": self.stretch,
            "known": {side: sorted(names) for side, names in self.known.items()},
        }

    @classmethod
    def load(cls, state: dict[str, Any]) -> "EnergyLearner":
        """The learner that `dump` gave away. ArtifactError where a part is missing or wrong."""
        self = cls()
        try:
            self.theta = np.array([float(state["theta"][name]) for name in NAMES])
            self.quantile = {side: float(state["quantile"][side]) for side in SIDES}
            self.known = {side: frozenset(state["known"][side]) for side in SIDES}
            self.stretch = float(state["stretch"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"expected a complete energy learner, {error} is wrong: train it anew"
            ) from error
        return self


def measured(table: Table) -> NDArray[np.intp]:
    """Rows with joules per output token, its rate, a load, a number of devices and a TDP."""
    good = table.ok & np.isfinite(table.metrics["energy_j_per_token"])
    good &= np.isfinite(table.metrics["output_tokens_per_s"]) & np.isfinite(stated_load(table.columns))
    for name in ("num_devices", "tdp_w", "params_b"):
        good &= np.isfinite(table.columns[name])
    return np.flatnonzero(good)


def folds_of(groups: NDArray[Any]) -> NDArray[np.intp]:
    """At most ten folds of whole groups, dealt in the order of their names."""
    names, place = np.unique(groups, return_inverse=True)
    return np.asarray(np.arange(len(names)) % FOLDS)[place.ravel()]


class Measurements:
    """Measured shares of TDP with the work behind them."""

    def __init__(self, done: Work, rate: Floats, share: Floats, prompts: NDArray[np.intp]) -> None:
        self.done, self.rate, self.share, self.prompts = done, rate, share, prompts

    @staticmethod
    def of(table: Table) -> "Measurements":
        columns = dict(table.columns)
        unstated = ~np.isfinite(num(columns, "input_tokens", np.nan))
        columns["input_tokens"] = num(columns, "input_tokens", PROMPT_TOKENS)
        t = terms(columns)
        names = np.where(unstated, np.char.add(table.keys["source"], columns["workload"]), "")
        prompts = np.unique(np.concatenate([[""], names]), return_inverse=True)[1].ravel()[1:]
        rate = table.metrics["output_tokens_per_s"] / columns["num_devices"]
        share = table.metrics["energy_j_per_token"] * rate / columns["tdp_w"]
        return Measurements(work(t), rate, share, np.asarray(prompts))

    def fit(self, rows: NDArray[np.bool_]) -> Floats:
        """Log costs, then the log prompt length of each workload that does not state it."""
        from scipy.optimize import least_squares

        extra = int(self.prompts.max())
        start = np.concatenate([START, np.zeros(extra)])
        width = np.concatenate([WIDTH, np.full(extra, PROMPT_WIDTH)])

        def residual(theta: Floats) -> Floats:
            return np.concatenate([self.left(theta, rows), (theta - start) / width])

        return np.asarray(least_squares(residual, start, loss="soft_l1", f_scale=0.2, max_nfev=60).x)

    def left(self, theta: Floats, rows: NDArray[np.bool_]) -> Floats:
        """Log of predicted by measured power."""
        longer = np.exp(np.concatenate([[0.0], theta[len(NAMES) :]]))[self.prompts[rows]]
        done = {name: values[rows] for name, values in self.done.items()}
        done["prefill"] = done["prefill"] * longer
        return np.asarray(np.log(share_of_tdp(theta, done, self.rate[rows]) / self.share[rows]))

    def held_out(self, folds: NDArray[np.intp]) -> Floats:
        """Log error of every row by a fit that never saw its fold."""
        left = np.zeros(len(self.rate))
        for fold in np.unique(folds):
            left[folds == fold] = self.left(self.fit(folds != fold), folds == fold)
        return left
