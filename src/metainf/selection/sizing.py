"""How much hardware a request rate needs: type × count × replicas, least cost first.

Assumptions. Requests arrive at random (Poisson) and are shared evenly by equal replicas. A replica has
as many slots as the method's batch limit (or the workload's concurrency) and, when full, finishes
requests at its predicted rate; waiting follows the M/M/c queue (Erlang C). A percentile of a latency is
the predicted percentile where there is one (`ttft_p99_s`), else the same percentile of the predictive
distribution, which here stands for the spread between requests; the queue's percentile is added to the
time to first token and to the end-to-end time. Where predictions already hold some queueing, the sum
errs on the safe side.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from metainf.domain import (
    BadInput,
    Batching,
    Frozen,
    Hardware,
    Method,
    Model,
    NoFeasible,
    Objective,
    Workload,
)
from metainf.selection.outlook import ask
from metainf.selection.predictor import Forecaster, MethodsFor, Predictor, Priced
from metainf.selection.scoring import Pool
from metainf.selection.spread import Floats

Latency = Literal["ttft", "tpot", "e2e"]
LIMITS = ("max_usd_per_hour", "max_ttft_s", "max_tpot_s", "max_e2e_s")
UNSIZED = ("max_usd", "min_requests_per_s", "min_quality_recovery")
SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


class Target(Frozen):
    """What must be served. `percentile` says of which share of requests the latency limits hold;
    without it they hold of the mean. `max_utilisation` keeps room for bursts."""

    request_rate_per_s: PositiveFloat
    percentile: Literal["p50", "p90", "p95", "p99"] | None = None
    max_utilisation: float = Field(default=0.85, gt=0, lt=1)
    max_replicas: PositiveInt = 64
    top: PositiveInt = 5


class Sized(Frozen):
    """A deployment that serves the target: latencies in seconds at the asked percentile."""

    hardware: Hardware
    method: Method
    replicas: PositiveInt
    devices: PositiveInt | None
    usd_per_hour: PositiveFloat | None
    usd_per_million_requests: PositiveFloat | None
    utilisation: float
    capacity_requests_per_s: PositiveFloat
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


def size(
    model: Model,
    workload: Workload,
    objective: Objective,
    hardware: Sequence[Priced],
    predictor: Predictor | Forecaster,
    methods_for: MethodsFor,
    target: Target,
) -> tuple[Sized, ...]:
    """The cheapest deployments that serve `target` within the objective's latency and price limits.

    Prices in `hardware` are per replica and hour. The capacity of a replica is its predicted request
    rate at the objective's confidence (the median at 0.5). Candidates less likely to run than that
    confidence are out. Unpriced deployments rank after priced ones, by number of devices. Raises
    NoFeasible telling how many failed for what.
    """
    priced = [(machine, method, price) for machine, price in hardware for method in methods_for(machine)]
    pairs = [(machine, method) for machine, method, _ in priced]
    prices = [price for _, _, price in priced]
    if other := [name for name in UNSIZED if getattr(objective, name) is not None]:
        raise BadInput(f"sizing takes {', '.join(LIMITS)} as limits, found {', '.join(other)}: leave it out")
    if not pairs:
        raise NoFeasible(f"no engine proposes a method for {model.name}: expected at least one candidate")
    usd = np.array([math.nan if price is None else price for price in prices], dtype=np.float64)
    pool = Pool(model, workload, objective, pairs, usd, ask(predictor, model, workload, pairs))
    capacity = pool.requests_per_s.quantile(-NormalDist().inv_cdf(objective.confidence))
    service = {name: _service(pool, name, target) for name in _wanted(objective)}
    found, failed = _sizes(pool, capacity, service, target)
    if not found:
        ways = _ways_out(pool, capacity, service, target)
        told = ", ".join(f"{count} for {why}" for why, count in failed.items() if count)
        raise NoFeasible(
            f"nothing serves {target.request_rate_per_s:g} requests/s within limits: {told} failed. {ways}"
        )
    return tuple(sorted(found, key=_order)[: target.top])


def _sizes(
    pool: Pool, capacity: Floats, service: dict[Latency, Floats], target: Target
) -> tuple[list[Sized], dict[str, int]]:
    """Every deployment within the limits, and how many candidates failed for what."""
    found: list[Sized] = []
    failed = {"unlikely to run": 0, "no predicted rate": 0, "latency": 0, "price or replicas": 0}
    for i in range(len(pool.pairs)):
        if pool.p_ok[i] < pool.objective.confidence:
            failed["unlikely to run"] += 1
        elif not capacity[i] > 0:
            failed["no predicted rate"] += 1
        else:
            times = {name: float(values[i]) for name, values in service.items()}
            sized = _replicate(pool, i, float(capacity[i]), times, target)
            if isinstance(sized, Sized):
                found.append(sized)
            else:
                failed[sized] += 1
    return found, failed


def _ways_out(pool: Pool, capacity: Floats, service: dict[Latency, Floats], target: Target) -> str:
    """Which limit binds and the cheapest deployment without it; without all where no single one helps."""
    given = [name for name in LIMITS if getattr(pool.objective, name) is not None]
    ways: list[tuple[float, str]] = []
    for lifted in [(name,) for name in given] + ([tuple(given)] if len(given) > 1 else []):
        if len(lifted) > 1 and ways:
            break
        freed = replace(pool, objective=pool.objective.model_copy(update=dict.fromkeys(lifted)))
        found, _ = _sizes(freed, capacity, service, target)
        if found:
            best = min(found, key=_order)
            binds = f"{' and '.join(lifted)} {'bind' if len(lifted) > 1 else 'binds'}"
            ways.append((best.usd_per_hour or math.inf, f"{binds}; without: {_in_words(best)}"))
    if ways:
        return f"Cheapest way out: {'; '.join(words for _, words in sorted(ways))}"
    most = f"at most {target.max_replicas} replicas are tried"
    return f"No limit but the rate binds ({most}): give larger hardware or a lower rate"


def _in_words(sized: Sized) -> str:
    price = "an unknown price" if sized.usd_per_hour is None else f"{sized.usd_per_hour:.2f} $/h"
    times = {"TTFT": sized.ttft_s, "TPOT": sized.tpot_s, "in all": sized.e2e_s}
    told = ", ".join(f"{name} {value:.3g} s" for name, value in times.items() if value is not None)
    machine = f"{sized.hardware.count or '?'} × {sized.hardware.device.name}"
    return f"{sized.replicas} replicas of {sized.method.engine} on {machine} at {price} ({told})"


def _wanted(objective: Objective) -> dict[Latency, float | None]:
    return {"ttft": objective.max_ttft_s, "tpot": objective.max_tpot_s, "e2e": objective.max_e2e_s}


def _service(pool: Pool, name: Latency, target: Target) -> Floats:
    """Latency without queueing beyond what the predictor saw, per candidate; NaN where not predicted."""
    spread = pool.e2e_s if name == "e2e" else pool.metric(f"{name}_s")
    if target.percentile is None:
        return spread.mean()
    own = pool.metric(f"{name}_{target.percentile}_s")
    tail = spread.quantile(NormalDist().inv_cdf(SHARES[target.percentile]))
    return np.where(own.known, own.median, tail)


def _replicate(
    pool: Pool, i: int, capacity: float, service: dict[Latency, float], target: Target
) -> Sized | Literal["latency", "price or replicas"]:
    """The fewest replicas that meet every limit, or what stands in the way."""
    objective, rate = pool.objective, target.request_rate_per_s
    machine, method = pool.pairs[i]
    bounds = _wanted(objective)
    if any(b is not None and not service[name] <= b for name, b in bounds.items()):
        return "latency"
    slots = _slots(method, pool.workload)
    share = None if target.percentile is None else SHARES[target.percentile]
    price = float(pool.usd_per_hour[i])
    for replicas in range(math.ceil(rate / (capacity * target.max_utilisation)), target.max_replicas + 1):
        cost = price * replicas
        if objective.max_usd_per_hour is not None and not cost <= objective.max_usd_per_hour:
            break
        wait = queue_wait_s(rate / replicas, capacity, slots, share)
        times = {n: None if math.isnan(s) else s + (0 if n == "tpot" else wait) for n, s in service.items()}
        if all(b is None or (t := times[n]) is None or t <= b for n, b in bounds.items()):
            return Sized(
                hardware=machine,
                method=method,
                replicas=replicas,
                devices=None if machine.count is None else machine.count * replicas,
                usd_per_hour=None if math.isnan(cost) else cost,
                usd_per_million_requests=None if math.isnan(cost) else cost / 3600 / rate * 1e6,
                utilisation=rate / (capacity * replicas),
                capacity_requests_per_s=capacity * replicas,
                ttft_s=times["ttft"],
                tpot_s=times["tpot"],
                e2e_s=times["e2e"],
            )
    return "price or replicas"


def _slots(method: Method, workload: Workload) -> int:
    batching = method.get(Batching)
    limit = batching.max_sequences if batching is not None else None
    load = math.ceil(workload.concurrency) if workload.concurrency is not None else workload.batch_size
    return min([number for number in (limit, load) if number is not None], default=1)


def queue_wait_s(rate: float, capacity: float, slots: int, share: float | None) -> float:
    """Waiting time in an M/M/c queue: arrivals and total capacity per second, the mean, or the time
    that a `share` of requests stays below.

    Infinite where the rate reaches the capacity.
    """
    if rate >= capacity:
        return math.inf
    offered = rate / capacity * slots
    blocked = 1.0
    for busy in range(1, slots + 1):
        blocked = offered * blocked / (busy + offered * blocked)
    waits = blocked / (1 - rate / capacity * (1 - blocked))
    slack = capacity - rate
    if share is None:
        return waits / slack
    return max(0.0, math.log(waits / (1 - share)) / slack) if waits > 0 else 0.0


def _order(sized: Sized) -> tuple[float, int, str, str]:
    cost = math.inf if sized.usd_per_hour is None else sized.usd_per_hour
    return cost, sized.devices or 0, sized.method.id, sized.hardware.id
