"""One answer: the best method and hardware for a model, a workload and an objective (Algorithm 2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from metainf.domain import (
    Candidate,
    Estimate,
    Excluded,
    Guarded,
    Hardware,
    Method,
    Model,
    NoFeasible,
    Objective,
    Prediction,
    Selection,
    Workload,
)
from metainf.selection.exclusion import Failure, failures, grouped, reasons, refused
from metainf.selection.infeasible import way_out
from metainf.selection.judging import Judged, judge
from metainf.selection.outlook import ask
from metainf.selection.predictor import Forecaster, MethodsFor, Pair, Predictor, Priced
from metainf.selection.scoring import Pool, limits
from metainf.selection.splitting import Split
from metainf.selection.spread import Floats


@dataclass(frozen=True)
class Rules:
    """What selection is told from outside.

    `check` may put a pair out before it is predicted; `recovery` maps a number format (`awq`, and
    `kv_fp8` for the cache) to the share of quality it keeps; `command` and `notes` decorate the ranked
    candidates; `top` candidates are returned and at most `max_excluded` groups of excluded ones. `split` has
    the client run a part of the model; `guarded` says of a candidate what a class of privacy makes of it,
    given by which factor its throughput changes.
    """

    check: Callable[[Hardware, Method], Excluded | None] | None = None
    recovery: Mapping[str, float] = field(default_factory=dict)
    command: Callable[[Hardware, Method], str | None] | None = None
    notes: Callable[[Hardware, Method], tuple[str, ...]] | None = None
    split: Split | None = None
    guarded: Callable[[Hardware, float], Guarded] | None = None
    top: int = 10
    max_excluded: int = 20


def select(
    model: Model,
    workload: Workload,
    objective: Objective,
    hardware: Sequence[Priced],
    predictor: Predictor | Forecaster,
    methods_for: MethodsFor,
    rules: Rules = Rules(),
) -> Selection:
    """Rank every method on every priced piece of hardware; the winner comes first.

    Score and feasibility are defined in `scoring`. Candidates whose chance of running and meeting every
    limit is below `objective.confidence` are excluded, with the weakest link as the reason. Equal scores
    go to the cheaper, then to the smaller content id, so the order of the candidates never matters.

    Raises NoFeasible naming the binding limit and the cheapest way out, and BadInput for a predictor
    that answers another number of pairs.
    """
    pairs, prices, out = _gather(hardware, methods_for, rules)
    if not pairs:
        raise NoFeasible(_nothing_proposed(model, hardware, out))
    outlook, factor = ask(predictor, model, workload, pairs), np.ones(len(pairs))
    if rules.split is not None:
        outlook, factor = rules.split.applied(outlook)
    pool = Pool(model, workload, objective, pairs, prices, outlook)
    judged = judge(pool, limits(pool, rules.recovery))
    excluded = grouped([*out, *failures(judged)], rules.max_excluded)
    if not judged.feasible.any():
        raise NoFeasible(way_out(judged, excluded))
    return Selection(
        model=model,
        workload=workload,
        objective=objective,
        ranked=_candidates(judged, _best(judged, rules.top), rules, factor),
        excluded=tuple(item.excluded for item in excluded),
    )


def _gather(
    hardware: Sequence[Priced], methods_for: MethodsFor, rules: Rules
) -> tuple[list[Pair], Floats, list[Failure]]:
    pairs: list[Pair] = []
    prices: list[float] = []
    out: list[Failure] = []
    for machine, price in hardware:
        for method in methods_for(machine):
            found = rules.check(machine, method) if rules.check is not None else None
            if found is None:
                pairs.append((machine, method))
                prices.append(np.nan if price is None else price)
            else:
                out.append(refused(found))
    return pairs, np.array(prices, dtype=np.float64), out


def _best(judged: Judged, top: int) -> list[int]:
    """Indices of the best feasible candidates, ties by price, then by content id."""
    open_ = np.flatnonzero(judged.feasible)
    scores = judged.score[open_]
    if len(open_) > top:
        bound = np.partition(scores, len(scores) - top)[len(scores) - top]
        open_ = open_[scores >= bound]
    price = np.nan_to_num(judged.pool.usd_per_hour, nan=np.inf)
    pairs = judged.pool.pairs

    def key(i: int) -> tuple[float, float]:
        return -float(judged.score[i]), float(price[i])

    def content(i: int) -> tuple[str, str]:
        machine, method = pairs[i]
        return method.id, machine.id

    tied = [list(same) for _, same in groupby(sorted(open_.tolist(), key=key), key=key)]
    return [i for same in tied for i in (sorted(same, key=content) if len(same) > 1 else same)][:top]


def _candidates(judged: Judged, places: Sequence[int], rules: Rules, factor: Floats) -> tuple[Candidate, ...]:
    found = judged.pool.outlook.predictions(places)
    return tuple(
        _candidate(judged, i, one, rules, float(factor[i])) for i, one in zip(places, found, strict=True)
    )


def _candidate(judged: Judged, i: int, prediction: Prediction, rules: Rules, factor: float) -> Candidate:
    pool = judged.pool
    machine, method = pool.pairs[i]
    price = float(pool.usd_per_hour[i])
    return Candidate(
        hardware=machine,
        method=method,
        prediction=prediction,
        usd_per_hour=None if np.isnan(price) else price,
        usd_per_million_tokens=_per_million(pool, i),
        p_feasible=min(1.0, float(judged.p_feasible[i])),
        score=float(judged.score[i]),
        command=rules.command(machine, method) if rules.command is not None else None,
        notes=rules.notes(machine, method) if rules.notes is not None else (),
        privacy=rules.guarded(machine, factor) if rules.guarded is not None else None,
    )


def _per_million(pool: Pool, i: int) -> Estimate | None:
    if pool.draws:
        return None
    unit = pool.usd_per_unit.estimate(i)
    return (
        None if unit is None else Estimate(value=unit.value * 1e6, low=unit.low * 1e6, high=unit.high * 1e6)
    )


def _nothing_proposed(model: Model, hardware: Sequence[Priced], out: Sequence[Failure]) -> str:
    names = ", ".join(sorted({machine.device.name for machine, _ in hardware})) or "no hardware"
    if not out:
        return f"no engine proposes a method for {model.name} on {names}: expected at least one candidate"
    return f"no method for {model.name} on {names} passes the checks: {reasons(grouped(out, 20), 4)}"
