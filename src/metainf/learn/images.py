"""The learner for diffusion models: seconds per image, images per second, memory, power and energy.

Fit order: (1) a robust ridge regression of log time beside the roofline prior, on facts of the run and the
words of its method; (2) boosted trees on what is left; (3) on out-of-fold residuals of whole models and
whole devices the quantile that makes 90 % intervals hold. Power is a share of the TDP by the same ridge.
Video counts as pictures with many pixels; its times are seconds per video.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.domain import ArtifactError, BadInput
from metainf.embed import drawing
from metainf.embed.columns import Columns
from metainf.embed.layout import num, text
from metainf.learn import trees
from metainf.learn.conformal import new_group_factor, weighted_quantile
from metainf.learn.failures import Failures
from metainf.learn.forecast import Z90, Forecast
from metainf.learn.image_runs import SIDES, groups_by_side, measured, merged
from metainf.learn.ridge import Ridge
from metainf.learn.table import Table
from metainf.learn.views import Floats

COVERAGE, FEWEST_ROWS, FOLDS, FEWEST_WORD = 0.9, 30, 8, 8
MEMORY_SCALE = 0.3
"""Log scale of the memory need where no run measured it: an estimate of ours."""
MOST_WAITING = 65_536.0
POWER = ("arithmetic of a step", "compute against bandwidth", "devices of a picture", "batch", "short steps")
ROUNDS = 200
_BOOST = {
    "objective": "reg:pseudohubererror", "huber_slope": 0.2, "max_depth": 4, "eta": 0.06, "lambda": 10.0,
    "subsample": 0.7, "colsample_bytree": 0.6, "min_child_weight": 0.0, "max_bin": 64, "nthread": 1,
    "tree_method": "hist", "base_score": 0.0,
}  # fmt: skip
MOST_LEANED = 20
_PLAIN: dict[str, NDArray[Any]] = {
    "compile": np.array([0.0]), "fused_qkv": np.array([0.0]), "weight_format": np.array([""]),
    "weight_bits": np.array([16.0]), "activation_bits": np.array([16.0]), "memory_mode": np.array([""]),
    "attention_backend": np.array(["default"]),
}  # fmt: skip
_TECHNIQUES = {
    "compiling": ("compile",),
    "fused projections": ("fused_qkv",),
    "number format of the weights": ("weight_format", "weight_bits", "activation_bits"),
    "memory mode": ("memory_mode",),
    "attention backend (against plain attention)": ("attention_backend",),
}


class DrawingLearner:
    """Forecasts e2e_s (of a batch), images_per_s, requests_per_s, steps_per_s, memory_gib and p_ok; with a
    TDP also power_w and energy_j_per_request (of one image)."""

    def fit(self, table: Table) -> Self:
        """Learn from measured image and video runs. Raises BadInput for fewer than 30 of two models."""
        rows = measured(table)
        few = table.take(rows)
        if len(rows) < FEWEST_ROWS or len(np.unique(few.keys["model_group"])) < 2:
            raise BadInput(
                f"expected at least {FEWEST_ROWS} measured runs of two or more image models, found "
                f"{len(rows)}: import more runs"
            )
        data = merged(few)
        self.words = _vocabulary(drawing.words(data.columns))
        p = drawing.picture(data.columns)
        base, x = drawing.prior(p, data.metrics["whole"] > 0), self.inputs(data.columns, p)
        y, weights = data.metrics["log_s"], data.metrics["weight"]
        self.ridge = Ridge.fit(x, y - base, weights)
        self.booster = _boost(x, y - base - self.ridge.predict(x), weights)
        self._trees = trees.Trees(self.booster)
        self.leans = self._leaning(x, list(drawing.facts(data.columns, p)))
        groups_of = groups_by_side(data)
        self.known = {side: frozenset(np.unique(groups_of[side]).tolist()) for side in SIDES[:2]}
        self.quantile = {}
        for side, groups in groups_of.items():
            left = held_out(x, y - base, weights, groups)
            wide = weighted_quantile(np.abs(left), weights, COVERAGE)
            self.quantile[side] = wide * new_group_factor(left, groups, COVERAGE)
        self._fit_memory(few)
        self._fit_power(few)
        draws = table.take(np.flatnonzero(drawing.known(table.columns)))
        self.failures = Failures.fit(draws, _memory(draws.columns, drawing.picture(draws.columns)))
        return self

    def _leaning(self, x: Floats, facts: list[str]) -> dict[str, dict[str, float]]:
        """Shares of the correction's features, largest first: total gain of the trees' splits, and mean
        absolute SHAP value of ridge and trees together over the runs."""
        names = [*facts, *self.words]
        linear = (x - x.mean(axis=0)) * self.ridge.slopes
        shap = np.abs(linear + self._trees.contributions(x.astype(np.float32))[:, :-1]).mean(axis=0)
        gain = np.zeros(len(names))
        pairs = self._trees.gain()
        gain[pairs[:, 0].astype(int)] = pairs[:, 1]
        found = {}
        for kind, sizes in (("gain of splits", gain), ("SHAP values", shap)):
            shares = sizes / max(float(sizes.sum()), 1e-12)
            order = np.argsort(-shares, kind="stable")[:MOST_LEANED]
            first = {names[i]: float(shares[i]) for i in order.tolist() if shares[i] > 0}
            found[kind] = first | {"everything else": max(float(shares.sum()) - sum(first.values()), 0.0)}
        return found

    def _fit_memory(self, table: Table) -> None:
        """Level and log scale of measured memory against the arithmetic of weights and working space."""
        left = np.log(table.metrics["memory_gib"] / drawing.picture(table.columns)["need_gib"])
        left = left[np.isfinite(left)]
        self.memory = {"level": 0.0, "scale": MEMORY_SCALE}
        if len(left) >= FEWEST_ROWS:
            level = float(np.median(left))
            self.memory = {"level": level, "scale": float(np.quantile(np.abs(left - level), COVERAGE)) / Z90}

    def _fit_power(self, table: Table) -> None:
        """Share of the TDP by a ridge of its own; absent without measured energy."""
        self.power: Ridge | None = None
        self.power_scale = 0.0
        joules, speed = table.metrics["energy_j_per_request"], table.metrics["images_per_s"]
        good = np.isfinite(joules) & np.isfinite(speed) & np.isfinite(table.columns["tdp_w"])
        if good.sum() < FEWEST_ROWS:
            return
        rows = table.take(np.flatnonzero(good))
        p = drawing.picture(rows.columns)
        watts = rows.metrics["energy_j_per_request"] * rows.metrics["images_per_s"]
        y = np.log(watts / p["ways"] / rows.columns["tdp_w"])
        x, ones = _power_inputs(rows.columns, p), np.ones(len(rows))
        self.power = Ridge.fit(x, y, ones)
        left = np.zeros(len(y))
        for fold, inn in _folds(rows.keys["model_group"]):
            left[fold] = y[fold] - Ridge.fit(x[inn], y[inn], ones[inn]).predict(x[fold])
        self.power_scale = float(np.quantile(np.abs(left), COVERAGE)) / Z90

    def inputs(self, columns: Columns, p: dict[str, Floats]) -> Floats:
        """Features (n, d) of rows and their `drawing.picture`."""
        said = drawing.words(columns)
        known = {word: place for place, word in enumerate(self.words)}
        matrix = np.zeros((len(said), len(known)))
        for row, have in enumerate(said):
            for word in have & known.keys():
                matrix[row, known[word]] = 1.0
        return np.column_stack([*drawing.facts(columns, p).values(), matrix])

    def forecast(self, columns: Columns) -> Forecast:
        """Medians and scales of every row; NaN where the size of the denoiser or a device rate is unknown."""
        columns = drawing.drawn_by(columns)
        p = drawing.picture(columns)
        x, unknown = self.inputs(columns, p), ~drawing.known(columns)
        log_s = drawing.prior(p) + self.ridge.predict(x) + self._trees.predict(x.astype(np.float32))
        log_s = np.where(unknown, np.nan, log_s)
        size, batch = self._size(columns), np.log(p["batch"])
        draw = log_s + np.log(p["steps"]) + batch
        able = batch + np.log(p["replicas"]) - draw
        served, waiting = _served(columns, p, np.exp(draw), np.exp(able))
        median = {
            "e2e_s": np.log(np.exp(draw) + waiting),
            "images_per_s": np.log(served),
            "requests_per_s": np.log(served),
            "steps_per_s": -log_s - batch,
            "memory_gib": np.log(p["need_gib"]) + self.memory["level"],
        }
        scale = dict.fromkeys(median, size) | {"memory_gib": np.full(len(size), self.memory["scale"])}
        if self.power is not None:
            share = np.minimum(self.power.predict(_power_inputs(columns, p)), 0.0)
            watts = share + np.log(p["ways"] * p["replicas"] * num(columns, "tdp_w", np.nan))
            median |= {"power_w": watts, "energy_j_per_request": watts - able}
            scale |= {
                "power_w": np.full(len(size), self.power_scale),
                "energy_j_per_request": np.hypot(size, self.power_scale),
            }
        return Forecast(median, scale, self.failures.p_ok(columns, _memory(columns, p)))

    def _size(self, columns: Columns) -> Floats:
        models, place = np.unique(text(columns, "model"), return_inverse=True)
        groups = np.array([catalog.model_group(name) for name in models.tolist()])[place.ravel()]
        new_model = ~np.isin(groups, sorted(self.known["model"]))
        new_device = ~np.isin(text(columns, "device"), sorted(self.known["hardware"]))
        model, hardware, pair = (self.quantile[side] / Z90 for side in SIDES)
        one = np.where(new_device, hardware, np.where(new_model, model, pair))
        return np.where(new_model & new_device, np.hypot(model, hardware), one)

    def explain(self, columns: Columns) -> tuple[str, ...]:
        """What each technique of the first row does to its time, strongest first."""
        row = {name: values[:1] for name, values in columns.items()}
        whole = float(self.forecast(row).log_median["e2e_s"][0])
        effects = []
        for phrase, names in _TECHNIQUES.items():
            without = row | {name: _PLAIN[name] for name in names}
            change = whole - float(self.forecast(without).log_median["e2e_s"][0])
            if abs(change) > 1e-3:
                effects.append((change, phrase))
        effects.sort(key=lambda pair: -abs(pair[0]))
        return tuple(f"{phrase}: {np.expm1(change):+.0%} of the time" for change, phrase in effects)

    def dump(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """(JSON-able state, boosters by name)."""
        state = {
            "kind": "drawing",
            "words": list(self.words),
            "ridge": self.ridge.dump(),
            "power": None if self.power is None else self.power.dump(),
            "power_scale": self.power_scale,
            "quantile": self.quantile,
            "memory": self.memory,
            "leans": self.leans,
            "known": {side: sorted(names) for side, names in self.known.items()},
            "failures": vars(self.failures),
        }
        return state, {"time": self.booster}

    @classmethod
    def load(cls, state: dict[str, Any], boosters: dict[str, bytes]) -> "DrawingLearner":
        """The learner that `dump` gave away. ArtifactError where a part is missing or wrong."""
        self = cls()
        try:
            self.words = tuple(state["words"])
            self.ridge = Ridge.load(state["ridge"])
            self.power = None if state["power"] is None else Ridge.load(state["power"])
            self.power_scale = float(state["power_scale"])
            self.quantile = {side: float(state["quantile"][side]) for side in SIDES}
            self.known = {side: frozenset(state["known"][side]) for side in SIDES[:2]}
            self.memory = {name: float(state["memory"][name]) for name in ("level", "scale")}
            self.leans = {kind: dict(shares) for kind, shares in state["leans"].items()}
            self.failures = Failures(**state["failures"])
            self.booster = boosters["time"]
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"expected a complete image learner, {error} is wrong: train it anew"
            ) from error
        self._trees = trees.Trees(self.booster)
        return self


def held_out(x: Floats, y: Floats, weights: Floats, groups: NDArray[Any]) -> Floats:
    """Residual of every row by a fit that never saw its group."""
    left = np.zeros(len(y))
    for out, inn in _folds(groups):
        ridge = Ridge.fit(x[inn], y[inn], weights[inn])
        booster = trees.Trees(_boost(x[inn], y[inn] - ridge.predict(x[inn]), weights[inn]))
        left[out] = y[out] - ridge.predict(x[out]) - booster.predict(x[out].astype(np.float32))
    return left


def _folds(groups: NDArray[Any]) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    names, place = np.unique(groups, return_inverse=True)
    fold = np.asarray(np.arange(len(names)) % FOLDS)[place.ravel()]
    return [(fold == k, fold != k) for k in np.unique(fold)]


def _boost(x: Floats, y: Floats, weights: Floats) -> bytes:
    return trees.train(x.astype(np.float32), y, _BOOST | {"seed": 7}, ROUNDS, weights)


def _vocabulary(said: list[frozenset[str]]) -> tuple[str, ...]:
    names = sorted({word for have in said for word in have})
    return tuple(name for name in names if sum(name in have for have in said) >= FEWEST_WORD)


def _power_inputs(columns: Columns, p: dict[str, Floats]) -> Floats:
    found = drawing.facts(columns, p)
    return np.column_stack([found[name] for name in POWER])


def _served(columns: Columns, p: dict[str, Floats], draw_s: Floats, able: Floats) -> tuple[Floats, Floats]:
    """Images per second at the asked load, and seconds that an image waits for its batch to start.

    A closed loop with more in flight than the batches hold queues; an open loop waits like before one
    server of constant service time (half of M/M/1).
    """
    rate = num(columns, "request_rate_per_s", np.nan)
    busy = np.clip(np.nan_to_num(rate / able, nan=0.0), 0.0, 1.0)
    opened = np.minimum(0.5 * draw_s * busy / np.maximum(1 - busy, 1e-9), MOST_WAITING / able)
    closed = np.maximum(num(columns, "concurrency", 0.0) / able - draw_s, 0.0)
    loop = np.isfinite(rate) & ~np.isfinite(num(columns, "concurrency", np.nan))
    return np.where(loop, np.minimum(able, np.where(loop, rate, np.inf)), able), np.where(
        loop, opened, closed
    )


def _memory(columns: Columns, p: dict[str, Floats]) -> dict[str, Floats]:
    memory = num(columns, "memory_gib", np.nan)
    return {
        "memory_gib": np.where(np.isfinite(memory), memory, 80.0),
        "least_gib": p["need_gib"],
        "memory_known": np.isfinite(memory) * 1.0,
    }
