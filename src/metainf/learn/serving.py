"""The learner for served language models: calibrated physics, related runs, conformal scale.

Fit order: (1) the prior's efficiencies by robust least squares in log space, pulled to their a-priori
values; (2) a Gaussian process of what they leave, over related runs; (3) on grouped out-of-fold
residuals: how much of (2) to keep, a model of the error's size, and the quantile that makes 90 %
intervals hold for a model (or device) never seen.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from metainf.domain import ArtifactError, BadInput
from metainf.embed import prior
from metainf.embed.columns import Columns
from metainf.embed.layout import by_name, num
from metainf.embed.physics import stated_load, terms
from metainf.learn import trees
from metainf.learn.conformal import (
    best_for_new_group,
    new_group_factor,
    new_group_share,
    row_weights,
    weighted_quantile,
)
from metainf.learn.failures import Failures
from metainf.learn.forecast import Z90, Forecast
from metainf.learn.kin import REASONS, Kin
from metainf.learn.reasons import mean_shares
from metainf.learn.residual import Core, Runs, fit_core, inputs
from metainf.learn.table import Table
from metainf.learn.views import Floats

TARGETS = ("tpot", "ttft")
COVERAGE = 0.9
NOVELTY = {"tpot": 0.1, "ttft": 0.4}
"""Log error added a priori where no group ran the row's engine so (in one engine, or in pools); it falls
with each group that did."""
SHRINK = (0.0, 0.25, 0.5, 0.75, 1.0)
UNTOLD = {"tpot": 0.2, "ttft": 0.4}
"""Log error added a priori where a row does not tell its worker counts, or whether it drafts tokens."""
MEMORY_SCALE = 0.15
"""Log scale of the memory need: an estimate of ours, not learned."""
FEWEST_ROWS = 30
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
        told = {name: values[rows] for name, values in table.columns.items()}
        runs = Runs.of(told, terms(told))
        seconds = np.stack([table.metrics[f"{n}_s"][rows] for n in TARGETS], axis=1)
        y = {n: np.log(seconds[:, i]) for i, n in enumerate(TARGETS)}
        weights = row_weights(groups, seconds)
        base, fix, x = self._out_of_fold(runs, y, weights, groups)
        self.seen = _groups_by_pool(runs.where.pool, groups)
        seen = {pool: number - 1 for pool, number in self.seen.items()}
        self.shrink: dict[str, float] = {}
        self.quantile: dict[str, float] = {}
        self._spread: dict[str, bytes] = {}
        for n in TARGETS:
            self._calibrate(n, y[n] - base[n], fix[n], (x, weights, self._doubt(n, runs, seen), groups))
        self.core = fit_core(runs, y, weights)
        if not any(self.shrink.values()):
            self.core.kin = Kin({})
        self.leans = mean_shares(runs.t, self.core.parts(runs), weights)
        self.failures = Failures.fit(table, terms(table.columns))
        self._ready()
        return self

    def _out_of_fold(
        self, runs: Runs, y: dict[str, Floats], weights: Floats, groups: NDArray[Any]
    ) -> tuple[dict[str, Floats], dict[str, Floats], trees.Matrix]:
        """Log prior, correction and features of every row, from fits that never saw its group."""
        base, fix = ({n: np.zeros(len(groups)) for n in TARGETS} for _ in range(2))
        x = np.zeros((len(groups), 0), dtype=np.float32)
        for group in np.unique(groups):
            out, inn = groups == group, groups != group
            core = fit_core(runs.take(inn), {n: y[n][inn] for n in TARGETS}, weights[inn])
            held = runs.take(out)
            part, found = core.parts(held), core.corrections(held, TARGETS)
            features = inputs(held.t, part, held.engine, self.unseen)
            x = x if x.shape[1] else np.zeros((len(groups), features.shape[1]), dtype=np.float32)
            x[out] = features
            for n in TARGETS:
                base[n][out], fix[n][out] = np.log(part[n]), found[n].sum(axis=1)
        return base, fix, x

    def _calibrate(
        self, name: str, left: Floats, fix: Floats, facts: tuple[trees.Matrix, Floats, Floats, NDArray[Any]]
    ) -> None:
        """Shrinkage, scale model and conformal quantile from what the prior leaves out of fold."""
        x, weights, doubt, groups = facts
        loss = np.stack([np.expm1(np.abs(a * fix - left)).clip(0, 1) for a in SHRINK])
        self.shrink[name] = SHRINK[best_for_new_group(loss, weights, groups)] if self.residual else 0.0
        residual = self.shrink[name] * fix - left
        label = np.log(np.abs(residual) + 0.02)
        options = _SPREAD | {"base_score": float(np.mean(label))}
        self._spread[name] = trees.train(x, label, options, 60, weights)
        size = _error_size(trees.Trees(self._spread[name]).predict(x), doubt)
        share = new_group_share(COVERAGE, len(np.unique(groups)))
        quantile = weighted_quantile(np.abs(residual) / size, weights, share)
        self.quantile[name] = quantile * new_group_factor(residual, groups, COVERAGE)

    @staticmethod
    def _doubt(name: str, runs: Runs, seen: dict[str, int]) -> Floats:
        """Log error added a priori: untold layouts and drafts, engines that few groups ran so."""
        untold = UNTOLD[name] * np.maximum(1.0 - runs.t["known"], runs.t["untold"])
        number = by_name(runs.where.pool, lambda pool: seen.get(pool, 0))
        return np.hypot(untold, NOVELTY[name] / (1 + number))

    def _ready(self) -> None:
        self._size = trees.Forest({n: [trees.Trees(self._spread[n])] for n in TARGETS})

    def evaluate(self, columns: Columns, known: Runs | None = None) -> tuple[Runs, dict[str, Floats]]:
        """Terms and calibrated parts (seconds) of each row; open loops by Little's law.

        known: the runs of these columns, where there is no open loop and they are known already.
        """
        if not hasattr(self, "core"):
            raise BadInput("expected a fitted learner, found one without data: call fit or load first")
        runs = known or Runs.of(columns, terms(columns, prior.in_flight(columns, self.core.theta)))
        return runs, self.core.parts(runs)

    def forecast(self, columns: Columns, known: Runs | None = None, p_ok: Floats | None = None) -> Forecast:
        """Medians and scales of every row. Missing load, lengths or facts are replaced as `layout` says.

        known, p_ok: what is known already of these columns (see `evaluate`).
        """
        runs, part = self.evaluate(columns, known)
        t, fixes = runs.t, self.corrections(runs)
        size = self._size.predict(inputs(t, part, runs.engine, self.unseen))
        mean: dict[str, Floats] = {}
        scale: dict[str, Floats] = {}
        for n in TARGETS:
            mean[f"{n}_s"] = np.log(part[n]) + fixes[n].sum(axis=1)
            error = _error_size(size[n], self._doubt(n, runs, self.seen))
            scale[f"{n}_s"] = np.maximum(self.quantile[n] * error / Z90, 1e-3)
        self._add_rates(mean, scale, t, num(columns, "request_rate_per_s", np.inf))
        mean["memory_gib"] = np.log(t["need_gib"])
        scale["memory_gib"] = np.full(len(runs.engine), MEMORY_SCALE)
        sure = self.failures.p_ok(columns, t) if p_ok is None else p_ok
        return Forecast(mean, scale, sure, part | t)

    def corrections(self, runs: Runs) -> dict[str, Floats]:
        """Learned log corrections of each target's prior after shrinkage, (n, 3): as in `kin.REASONS`."""
        wanted = tuple(n for n in TARGETS if self.shrink[n])
        found = self.core.corrections(runs, wanted) if wanted else {}
        nothing = np.zeros((len(runs.engine), len(REASONS)))
        return {n: self.shrink[n] * found[n] if n in found else nothing for n in TARGETS}

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
            "kin": self.core.kin.pools,
            "shrink": self.shrink,
            "quantile": self.quantile,
            "seen": self.seen,
            "leans": self.leans,
            "failures": vars(self.failures),
        }
        return state, {f"spread-{n}": model for n, model in self._spread.items()}

    @classmethod
    def load(cls, state: dict[str, Any], boosters: dict[str, bytes]) -> "ServingLearner":
        """The learner that `dump` gave away. ArtifactError where parts are missing or not ours."""
        try:
            self = cls(state["unseen"])
            theta = np.array([float(state["theta"][name]) for name in prior.NAMES])
            self.shrink, self.quantile = dict(state["shrink"]), dict(state["quantile"])
            self.seen, self.leans = dict(state["seen"]), dict(state["leans"])
            self.failures = Failures(**state["failures"])
            self._spread = {n: boosters[f"spread-{n}"] for n in TARGETS}
            self.core = Core(theta, Kin(state["kin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"expected a complete serving learner, a part is missing or wrong: {error}; train it anew"
            ) from error
        self._ready()
        return self

    def importance(self) -> list[tuple[str, str, float]]:
        """(target, cause, share), largest first: what makes the calibrated time of the runs learned from,
        and for each target that is corrected, which related runs do so."""
        found = [("time of a request", cause, share) for cause, share in self.leans.items()]
        for target in (n for n in TARGETS if self.shrink[n]):
            sizes = self.core.kin.sizes(target)
            whole = max(float(sizes.sum()), 1e-12)
            order = np.argsort(-sizes, kind="stable").tolist()
            found += [(f"{target} correction", REASONS[i], float(sizes[i]) / whole) for i in order]
        return found

    def explain(self, columns: Columns) -> list[list[tuple[str, float]]]:
        """What makes each row's end-to-end time: (phrase, log contribution), strongest first, five."""
        from metainf.learn.reasons import reasons

        return reasons(self, columns)


def _error_size(log_size: Floats, doubt: Floats) -> Floats:
    """Predicted absolute log error, widened by what is not told or never ran."""
    return np.hypot(np.exp(log_size), doubt)


def _groups_by_pool(pool: NDArray[Any], groups: NDArray[Any]) -> dict[str, int]:
    """How many groups ran each engine, pools apart."""
    return {str(name): len(np.unique(groups[pool == name])) for name in np.unique(pool)}


def _usable(table: Table) -> NDArray[np.intp]:
    """Rows with both times and a stated load."""
    good = table.ok & np.isfinite(stated_load(table.columns))
    good &= np.isfinite(num(table.columns, "input_tokens", np.nan))
    good &= num(table.columns, "output_tokens", 0.0) > 1
    for name in ("tpot_s", "ttft_s"):
        good &= np.isfinite(table.metrics[name]) & (table.metrics[name] > 0)
    return np.flatnonzero(good)
