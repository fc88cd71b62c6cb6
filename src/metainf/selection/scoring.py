"""Score and feasibility of every candidate, in numpy.

Paper equation 3 asks for the best predicted performance under cost <= budget, with cost the hardware
price times the expected runtime. Here performance is an expectation over the predictive distribution and
every limit carries the probability that it is met:

    p_feasible = p_ok × Π P(limit met)        score = p_feasible × value

The product takes the limits as independent given that the method runs. `value` is the reciprocal of an
expectation of what is spent (seconds, dollars or joules per unit of work: 1 / E[1 / throughput] too), so
that nothing is rewarded for being uncertain.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from metainf.domain import (
    BadInput,
    KvQuantization,
    Method,
    Model,
    Objective,
    WeightQuantization,
    Workload,
)
from metainf.engines.students import another_model
from metainf.selection.outlook import Outlook
from metainf.selection.predictor import Pair
from metainf.selection.spread import Floats, Spread

SECONDS_PER_HOUR = 3600.0
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Limit:
    """One bound of the objective: where its fact is known, where it is met for sure, and how likely.

    `label` names the field of Objective; `kind` is the exclusion it causes; `text` tells one candidate's
    numbers.
    """

    label: str
    kind: str
    known: Bools
    allowed: Bools
    probability: Floats
    text: Callable[[int], str]


@dataclass(frozen=True)
class Pool:
    """Candidates with their prices (US dollars per hour, NaN unknown) and what is predicted of them."""

    model: Model
    workload: Workload
    objective: Objective
    pairs: Sequence[Pair]
    usd_per_hour: Floats
    outlook: Outlook

    def metric(self, name: str) -> Spread:
        """The predicted distribution of one metric."""
        return self.outlook.metric(name)

    @property
    def p_ok(self) -> Floats:
        """Probability that each candidate runs at all."""
        return self.outlook.p_ok

    @property
    def draws(self) -> bool:
        """Whether the work is images or video."""
        return self.model.modality in ("image", "video")

    @cached_property
    def units_per_s(self) -> Spread:
        """Output tokens per second, or images per second."""
        if self.draws:
            return self.metric("images_per_s")
        direct = self.metric("output_tokens_per_s")
        tokens = self._output_tokens
        if tokens is None or bool(direct.known.all()):
            return direct
        return direct.or_else(self.metric("requests_per_s").times(tokens))

    @cached_property
    def requests_per_s(self) -> Spread:
        """Requests per second, from output tokens per second where not predicted itself."""
        direct = self.metric("requests_per_s")
        if self.draws:
            return direct.or_else(self.units_per_s)
        tokens = self._output_tokens
        return (
            direct if tokens is None else direct.or_else(self.metric("output_tokens_per_s").times(1 / tokens))
        )

    @cached_property
    def e2e_s(self) -> Spread:
        """Seconds per request: predicted, else time to first token plus the tokens after it."""
        direct = self.metric("e2e_s")
        tokens = self._output_tokens
        if self.draws or tokens is None or bool(direct.known.all()):
            return direct
        rest = self.metric("tpot_s").times(max(tokens - 1, 1e-9))
        return direct.or_else(self.metric("ttft_s").plus(rest))

    @property
    def _output_tokens(self) -> float | None:
        lengths = self.workload.output_tokens
        return lengths.mean if lengths is not None and lengths.mean > 0 else None

    @cached_property
    def usd_per_unit(self) -> Spread:
        """Dollars per output token (or image): price divided by throughput."""
        return self.units_per_s.inverse().times(self.usd_per_hour / SECONDS_PER_HOUR)

    @cached_property
    def job_usd(self) -> Spread:
        """Dollars for the whole workload: price × runtime (equation 3)."""
        if self.workload.num_requests is None:
            raise BadInput("max_usd bounds a whole job: expected a workload with num_requests, found none")
        per_request = self.requests_per_s.inverse()
        return per_request.times(self.workload.num_requests * self.usd_per_hour / SECONDS_PER_HOUR)

    @cached_property
    def value(self) -> Floats:
        """What the objective's aim is worth, more is better; NaN where it cannot be told."""
        aim = self.objective.aim
        if aim == "throughput":
            return 1 / self.units_per_s.inverse().mean()
        if aim == "throughput_per_dollar":
            return SECONDS_PER_HOUR / (self.units_per_s.inverse().mean() * self.usd_per_hour)
        if aim == "cost":
            return 1 / self.usd_per_unit.mean()
        if aim == "energy":
            per = "energy_j_per_request" if self.draws else "energy_j_per_token"
            return 1 / self.metric(per).mean()
        if aim == "latency":
            return 1 / self.e2e_s.mean()
        return 1 / self.metric(f"{aim}_s").mean()


def limits(pool: Pool, recovery: Mapping[str, float]) -> list[Limit]:
    """Every bound the objective sets."""
    wanted = pool.objective
    found: list[Limit] = []
    if wanted.max_usd_per_hour is not None:
        found.append(_hourly(pool, wanted.max_usd_per_hour))
    if wanted.max_usd is not None:
        found.append(_job(pool, wanted.max_usd))
    for name, bound in (("ttft_s", wanted.max_ttft_s), ("tpot_s", wanted.max_tpot_s)):
        if bound is not None:
            found.append(_at_most(f"max_{name}", pool.metric(name), bound))
    if wanted.max_e2e_s is not None:
        found.append(_at_most("max_e2e_s", pool.e2e_s, wanted.max_e2e_s))
    if wanted.min_requests_per_s is not None:
        found.append(_at_least("min_requests_per_s", pool.requests_per_s, wanted.min_requests_per_s))
    if wanted.min_quality_recovery is not None:
        found.append(_quality(pool, wanted.min_quality_recovery, recovery))
    return found


def _hourly(pool: Pool, bound: float) -> Limit:
    price = pool.usd_per_hour
    known, allowed = ~np.isnan(price), price <= bound
    text = lambda i: f"costs {price[i]:.2f} $/h, limit {bound:g}"  # noqa: E731
    return Limit("max_usd_per_hour", "budget", known, allowed, allowed.astype(np.float64), text)


def _job(pool: Pool, bound: float) -> Limit:
    cost = pool.job_usd
    expected = cost.mean()
    text = lambda i: f"the job is expected to cost {expected[i]:.2f} $, limit {bound:g}"  # noqa: E731
    return Limit("max_usd", "budget", cost.known, expected <= bound, cost.at_most(bound), text)


def _at_most(label: str, spread: Spread, bound: float) -> Limit:
    median, chance = spread.median, spread.at_most(bound)
    name = label.removeprefix("max_")
    text = lambda i: f"{name} {median[i]:.3g} expected, limit {bound:g}, met with {chance[i]:.0%}"  # noqa: E731
    return Limit(label, "slo", spread.known, np.ones(len(median), dtype=np.bool_), chance, text)


def _at_least(label: str, spread: Spread, bound: float) -> Limit:
    median, chance = spread.median, spread.inverse().at_most(1 / bound)
    name = label.removeprefix("min_")
    text = lambda i: f"{name} {median[i]:.3g} expected, at least {bound:g} wanted, met with {chance[i]:.0%}"  # noqa: E731
    return Limit(label, "slo", spread.known, np.ones(len(median), dtype=np.bool_), chance, text)


def _quality(pool: Pool, floor: float, recovery: Mapping[str, float]) -> Limit:
    lowered = {name.lower(): share for name, share in recovery.items()}
    cache: dict[tuple[str | None, str | None], float] = {}
    shares = np.array([_recovery(method, pool.model, lowered, cache) for _, method in pool.pairs])
    known, allowed = ~np.isnan(shares), shares >= floor
    text = lambda i: f"keeps {shares[i]:.1%} of the quality, floor {floor:.1%}"  # noqa: E731
    return Limit("min_quality_recovery", "quality", known, allowed, allowed.astype(np.float64), text)


def _recovery(
    method: Method,
    model: Model,
    recovery: Mapping[str, float],
    cache: dict[tuple[str | None, str | None], float],
) -> float:
    if another_model(method):
        return math.nan
    weights, kv = method.get(WeightQuantization), method.get(KvQuantization)
    key = (weights.format if weights else None, kv.format if kv else None)
    if key not in cache:
        share = 1.0
        if key[0] is not None and key[0] != model.quantization:
            share *= recovery.get(key[0].lower(), math.nan)
        if key[1] is not None and key[1].lower() not in ("auto", "f16", "bf16", "fp16"):
            share *= recovery.get(f"kv_{key[1].lower()}", math.nan)
        cache[key] = share
    return cache[key]
