"""The learner for served language models: calibrated physics, boosted residual, conformal scale.

Fit order: (1) the prior's efficiencies by robust least squares in log space, pulled to their a-priori
values; (2) boosted trees on the residual, after each group's own median is taken out; (3) on grouped
out-of-fold residuals: how much of (2) to keep, a model of the error's size, and the quantile that makes
90 % intervals hold for a model (or device) never seen.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from metainf.domain import ArtifactError, BadInput
from metainf.embed import prior
from metainf.embed.columns import Columns
from metainf.embed.layout import num
from metainf.embed.physics import stated_load, terms
from metainf.learn import trees
from metainf.learn.conformal import new_group_factor, row_weights, weighted_quantile
from metainf.learn.failures import Failures
from metainf.learn.forecast import Z90, Forecast
from metainf.learn.residual import FACTS, FEATURES, Core, fit_core, inputs
from metainf.learn.table import Table
from metainf.learn.views import Floats

TARGETS = ("tpot", "ttft")
COVERAGE = 0.9
SHRINK = (0.0, 0.25, 0.5, 0.75, 1.0)
WORKERS_UNKNOWN = {"tpot": 0.2, "ttft": 0.4}
"""Log error added a priori where a disaggregated row does not give its worker counts."""
MEMORY_SCALE = 0.15
"""Log scale of the memory need: an estimate of ours, not learned."""
FEWEST_ROWS = 30
SEEDS = 3
Unseen = Literal["model", "hardware"]
_KEY: dict[Unseen, str] = {"model": "model_group", "hardware": "device"}
_SPREAD = {
    "objective": "reg:squarederror",
    "max_depth": 3,
    "eta": 0.05,
    "lambda": 50.0,
    "subsample": 0.7,
    "colsample_bytree": 0.6,
    "nthread": 1,
    "seed": 7,
    "max_bin": 64,
    "tree_method": "hist",
}


class ServingLearner:
    """Forecasts tpot_s, ttft_s, e2e_s, rates, memory and p_ok of served language models.

    unseen: the side of a setting that the history does not hold: intervals and features are made for it.
    residual: False keeps the calibrated prior alone (an ablation).
    """

    def __init__(self, unseen: Unseen = "model", residual: bool = True) -> None:
        if unseen not in _KEY:
            raise BadInput(f"expected unseen to be one of {', '.join(_KEY)}, found {unseen!r}")
        self.unseen: Unseen = unseen
        self.residual = residual

    def fit(self, table: Table) -> Self:
        """Learn from the rows that measured both times under a stated load.

        Raises BadInput where fewer than 30 such rows, or fewer than two groups, are there.
        """
        rows = _usable(table)
        groups = table.keys[_KEY[self.unseen]][rows]
        if len(rows) < FEWEST_ROWS or len(np.unique(groups)) < 2:
            raise BadInput(
                f"expected at least {FEWEST_ROWS} runs with tpot_s, ttft_s and a load, of two or more "
                f"{self.unseen}s; found {len(rows)} of {len(np.unique(groups))}: import more runs"
            )
        columns = {name: values[rows] for name, values in table.columns.items()}
        seconds = np.stack([table.metrics[f"{n}_s"][rows] for n in TARGETS], axis=1)
        y = {n: np.log(seconds[:, i]) for i, n in enumerate(TARGETS)}
        t, engine, weights = terms(columns), prior.engine_index(columns), row_weights(groups, seconds)
        base, fix, x = self._out_of_fold(t, engine, y, weights, groups)
        self.shrink: dict[str, float] = {}
        self.quantile: dict[str, float] = {}
        self._spread: dict[str, bytes] = {}
        for n in TARGETS:
            self._calibrate(n, y[n] - base[n], fix[n], (x, weights, t["known"], groups))
        self.core = fit_core(t, engine, y, weights, groups, self.unseen, SEEDS)
        self.failures = Failures.fit(table, terms(table.columns))
        self._ready()
        return self

    def _out_of_fold(
        self,
        t: dict[str, Floats],
        engine: NDArray[np.intp],
        y: dict[str, Floats],
        weights: Floats,
        groups: NDArray[Any],
    ) -> tuple[dict[str, Floats], dict[str, Floats], trees.Matrix]:
        """Log prior, correction and features of every row, from fits that never saw its group."""
        base, fix = ({n: np.zeros(len(groups)) for n in TARGETS} for _ in range(2))
        x = np.zeros((len(groups), 0), dtype=np.float32)
        for group in np.unique(groups):
            out, inn = groups == group, groups != group
            train = {k: v[inn] for k, v in t.items()}, engine[inn], {n: y[n][inn] for n in TARGETS}
            core = fit_core(*train, weights[inn], groups[inn], self.unseen, 1)
            part = prior.parts({k: v[out] for k, v in t.items()}, engine[out], core.theta)
            found = inputs({k: v[out] for k, v in t.items()}, part, engine[out], self.unseen)
            x = x if x.shape[1] else np.zeros((len(groups), found.shape[1]), dtype=np.float32)
            x[out] = found
            for n in TARGETS:
                base[n][out], fix[n][out] = np.log(part[n]), core.correction(n, found)
        return base, fix, x

    def _calibrate(
        self, name: str, left: Floats, fix: Floats, facts: tuple[trees.Matrix, Floats, Floats, NDArray[Any]]
    ) -> None:
        """Shrinkage, scale model and conformal quantile from what the prior leaves out of fold."""
        x, weights, known, groups = facts
        loss = [
            float(np.average(np.expm1(np.abs(a * fix - left)).clip(0, 1), weights=weights)) for a in SHRINK
        ]
        self.shrink[name] = SHRINK[int(np.argmin(loss))] if self.residual else 0.0
        residual = self.shrink[name] * fix - left
        label = np.log(np.abs(residual) + 0.02)
        options = _SPREAD | {"base_score": float(np.mean(label))}
        self._spread[name] = trees.train(x, label, options, 60, weights)
        size = _error_size(name, trees.Trees(self._spread[name]).predict(x), known)
        quantile = weighted_quantile(np.abs(residual) / size, weights, COVERAGE)
        self.quantile[name] = quantile * new_group_factor(residual, groups, COVERAGE)

    def _ready(self) -> None:
        kept = {f"{n} correction": self.core.trees[n] for n in TARGETS if self.shrink[n]}
        self._forest = trees.Forest(kept | {f"{n} size": [trees.Trees(self._spread[n])] for n in TARGETS})

    def evaluate(
        self, columns: Columns, found: dict[str, Floats] | None = None
    ) -> tuple[dict[str, Floats], dict[str, Floats], trees.Matrix]:
        """Terms, calibrated parts (seconds) and features of each row; open loops by Little's law.

        found: the terms of rows without an open loop, where they are known already.
        """
        if not hasattr(self, "core"):
            raise BadInput("expected a fitted learner, found one without data: call fit or load first")
        engine = prior.engine_index(columns)
        t = terms(columns, prior.in_flight(columns, self.core.theta)) if found is None else found
        part = prior.parts(t, engine, self.core.theta)
        return t, part, inputs(t, part, engine, self.unseen)

    def forecast(
        self, columns: Columns, found: dict[str, Floats] | None = None, p_ok: Floats | None = None
    ) -> Forecast:
        """Medians and scales of every row. Missing load, lengths or facts are replaced as `layout` says.

        found, p_ok: what is known already of these columns (see `evaluate`).
        """
        t, part, x = self.evaluate(columns, found)
        said = self._forest.predict(x)
        mean: dict[str, Floats] = {}
        scale: dict[str, Floats] = {}
        for n in TARGETS:
            mean[f"{n}_s"] = np.log(part[n]) + self.shrink[n] * said.get(f"{n} correction", np.zeros(1))
            size = _error_size(n, said[f"{n} size"], t["known"])
            scale[f"{n}_s"] = np.maximum(self.quantile[n] * size / Z90, 1e-3)
        self._add_rates(mean, scale, t, num(columns, "request_rate_per_s", np.inf))
        mean["memory_gib"] = np.log(t["need_gib"])
        scale["memory_gib"] = np.full(len(x), MEMORY_SCALE)
        sure = self.failures.p_ok(columns, t) if p_ok is None else p_ok
        return Forecast(mean, scale, sure, part | t)

    @staticmethod
    def _add_rates(
        mean: dict[str, Floats], scale: dict[str, Floats], t: dict[str, Floats], rate: Floats
    ) -> None:
        """End-to-end time and, by Little's law, requests and tokens per second (all devices)."""
        first, rest = np.exp(mean["ttft_s"]), np.exp(mean["tpot_s"]) * (t["osl"] - 1)
        e2e = first + rest
        a, b = scale["ttft_s"] * first / e2e, scale["tpot_s"] * rest / e2e
        mean["e2e_s"], scale["e2e_s"] = np.log(e2e), np.sqrt(a**2 + b**2 + a * b)
        mean["requests_per_s"] = np.log(np.minimum(t["conc"] / e2e, rate))
        mean["output_tokens_per_s"] = mean["requests_per_s"] + np.log(t["osl"])
        scale["requests_per_s"] = scale["output_tokens_per_s"] = scale["e2e_s"]

    def dump(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """(JSON-able state, boosters by file-like name); `load` restores bit-identical forecasts."""
        state = {
            "kind": "serving",
            "unseen": self.unseen,
            "theta": dict(zip(prior.NAMES, self.core.theta.tolist(), strict=True)),
            "shrink": self.shrink,
            "quantile": self.quantile,
            "failures": vars(self.failures),
        }
        boosters = {f"spread-{n}": model for n, model in self._spread.items()}
        for n, models in self.core.boosters.items():
            boosters |= {f"residual-{n}-{i}": model for i, model in enumerate(models)}
        return state, boosters

    @classmethod
    def load(cls, state: dict[str, Any], boosters: dict[str, bytes]) -> "ServingLearner":
        """The learner that `dump` gave away. ArtifactError where parts are missing or not ours."""
        try:
            self = cls(state["unseen"])
            theta = np.array([float(state["theta"][name]) for name in prior.NAMES])
            self.shrink, self.quantile = dict(state["shrink"]), dict(state["quantile"])
            self.failures = Failures(**state["failures"])
            self._spread = {n: boosters[f"spread-{n}"] for n in TARGETS}
            residual = {n: [boosters[f"residual-{n}-{i}"] for i in range(SEEDS)] for n in TARGETS}
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"expected a complete serving learner, a part is missing or wrong: {error}; train it anew"
            ) from error
        self.core = Core(theta, residual)
        self._ready()
        return self

    def importance(self) -> list[tuple[str, str, float]]:
        """(target, feature, share of the total gain) of the learned correction, largest first."""
        names = (*FEATURES, *FACTS[self.unseen])
        found = []
        for target, models in self.core.trees.items():
            gains = np.zeros(len(names))
            for model in models:
                pairs = model.gain()
                gains[pairs[:, 0].astype(int)] += pairs[:, 1]
            order = np.argsort(-gains, kind="stable")
            found += [(target, names[i], float(gains[i] / max(gains.sum(), 1e-12))) for i in order.tolist()]
        return found

    def explain(self, columns: Columns) -> list[list[tuple[str, float]]]:
        """What makes each row's end-to-end time: (phrase, log contribution), strongest first, five."""
        from metainf.learn.reasons import reasons

        return reasons(self, columns)


def _error_size(name: str, log_size: Floats, known: Floats) -> Floats:
    """Predicted absolute log error, widened where the worker count is unknown."""
    return np.hypot(np.exp(log_size), WORKERS_UNKNOWN[name] * (1.0 - known))


def _usable(table: Table) -> NDArray[np.intp]:
    """Rows with both times and a stated load."""
    good = table.ok & np.isfinite(stated_load(table.columns))
    good &= np.isfinite(num(table.columns, "input_tokens", np.nan))
    good &= num(table.columns, "output_tokens", 0.0) > 1
    for name in ("tpot_s", "ttft_s"):
        good &= np.isfinite(table.metrics[name]) & (table.metrics[name] > 0)
    return np.flatnonzero(good)
