"""Why candidates were left out, told once per limit, hardware and engine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np

from metainf.domain import Excluded
from metainf.selection.judging import Judged
from metainf.selection.predictor import Pair

Why = Literal["budget", "memory", "unsupported", "slo", "conflict", "no_effect", "quality", "unknown"]
PRICED = ("throughput_per_dollar", "cost")


@dataclass(frozen=True)
class Failure:
    """An excluded candidate before grouping: `closeness` orders the group, larger is nearer."""

    pair: Pair
    limit: Why
    reason: Callable[[], str]
    closeness: float


@dataclass(frozen=True)
class Group:
    """Excluded candidates of one engine, hardware and limit, told by the nearest miss."""

    excluded: Excluded
    count: int


def refused(out: Excluded) -> Failure:
    """A candidate that a check put out before it was predicted."""
    return Failure((out.hardware, out.method), out.limit, partial(getattr, out, "reason"), 0.0)


def failures(judged: Judged) -> Iterator[Failure]:
    """Every candidate that the limits put out."""
    pool = judged.pool
    closeness = judged.p_feasible + 1e-9 * np.nan_to_num(pool.value)
    for i in np.flatnonzero(~judged.feasible).tolist():
        limit, reason = _why(judged, i)
        yield Failure(pool.pairs[i], limit, reason, float(closeness[i]))


def _why(judged: Judged, i: int) -> tuple[Why, Callable[[], str]]:
    """The limit that put candidate `i` out: an unknown fact, a bound broken for sure, the weakest link."""
    pool = judged.pool
    for limit in judged.limits:
        if not limit.known[i]:
            kind: Why = "quality" if limit.kind == "quality" else "unknown"
            return kind, partial("nothing is known to hold {} against".format, limit.label)
        if not limit.allowed[i]:
            return cast(Why, limit.kind), partial(limit.text, i)
    if np.isnan(pool.value[i]):
        priced = pool.objective.aim in PRICED and np.isnan(pool.usd_per_hour[i])
        missing = "price" if priced else "prediction"
        return "unknown", partial("no {} to judge {} by".format, missing, pool.objective.aim)
    weakest = min(judged.limits, key=lambda limit: float(limit.probability[i]), default=None)
    if weakest is None or pool.p_ok[i] <= weakest.probability[i]:
        return "memory", partial(_unlikely, judged, i)
    return cast(Why, weakest.kind), partial(weakest.text, i)


def _unlikely(judged: Judged, i: int) -> str:
    hints = judged.pool.predictions[i].reasons[:1]
    return "; ".join([f"runs with a probability of {judged.pool.p_ok[i]:.0%} only", *hints])


def grouped(found: Sequence[Failure], most: int) -> list[Group]:
    """One entry per limit, hardware and engine, told by its nearest miss; the largest groups first."""
    groups: dict[tuple[str, str, int, str], list[Failure]] = {}
    for failure in found:
        groups.setdefault(_name(failure), []).append(failure)
    kept = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:most]
    return [_told(group) for _, group in kept]


def _name(failure: Failure) -> tuple[str, str, int, str]:
    machine, method = failure.pair
    return failure.limit, machine.device.name, machine.count or 0, method.engine


def _told(group: Sequence[Failure]) -> Group:
    top = max(failure.closeness for failure in group)
    tied = [failure for failure in group if failure.closeness == top]
    nearest = tied[0] if len(tied) == 1 else min(tied, key=_content)
    more = f" ({len(group) - 1} more like it)" if len(group) > 1 else ""
    machine, method = nearest.pair
    reason = nearest.reason() + more
    return Group(Excluded(hardware=machine, method=method, limit=nearest.limit, reason=reason), len(group))


def _content(failure: Failure) -> tuple[str, str]:
    machine, method = failure.pair
    return method.id, machine.id
