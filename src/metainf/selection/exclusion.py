"""Why candidates were left out, told once per limit, hardware and engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Excluded, ExcludedBy
from metainf.engines.memory import requirement
from metainf.selection.judging import Judged
from metainf.selection.predictor import Pair

Tell = Callable[[int], str]
TIGHT = 0.9
"""Share of the usable memory from which on a low chance of running is put down to memory."""
PRICED = ("throughput_per_dollar", "cost")


class Failure(NamedTuple):
    """An excluded candidate: `closeness` orders those alike, larger is nearer; `tell(place)` says why.

    It stands for `alike` candidates, itself and some that are farther.
    """

    pair: Pair
    limit: ExcludedBy
    tell: Tell
    closeness: float
    place: int
    alike: int = 1


@dataclass(frozen=True)
class Group:
    """Excluded candidates of one engine, hardware and limit, told by the nearest miss."""

    excluded: Excluded
    count: int


def refused(out: Excluded) -> Failure:
    """A candidate that a check put out before it was predicted."""
    return Failure((out.hardware, out.method), out.limit, lambda _: out.reason, 0.0, 0)


def failures(judged: Judged) -> list[Failure]:
    """The candidates that the limits put out: the nearest of each reason, hardware and engine.

    Where several are equally near the first stands for all that are farther, the others for themselves.
    """
    out = np.flatnonzero(~judged.feasible)
    codes = _codes(judged)[out].tolist()
    pairs = [judged.pool.pairs[i] for i in out.tolist()]
    kinds: dict[tuple[int, int, str], int] = {}
    keys = [(code, id(pair[0]), pair[1].engine) for code, pair in zip(codes, pairs, strict=True)]
    kind = np.array([kinds.setdefault(key, len(kinds)) for key in keys], dtype=np.intp)
    closeness = judged.p_feasible[out] + 1e-9 * np.nan_to_num(judged.pool.value[out])
    top = np.full(len(kinds), -np.inf)
    np.maximum.at(top, kind, closeness)
    nearest = closeness == top[kind]
    farther = np.bincount(kind[~nearest], minlength=len(kinds)).tolist()
    reasons = _reasons(judged)
    found = []
    for k in np.flatnonzero(nearest).tolist():
        limit, tell = reasons[codes[k]]
        found.append(Failure(pairs[k], limit, tell, float(closeness[k]), int(out[k]), 1 + farther[kind[k]]))
        farther[kind[k]] = 0
    return found


def _codes(judged: Judged) -> NDArray[np.int64]:
    """Per candidate the row of `_reasons` that put it out: the first fact unknown or bound broken for
    sure, then a value that cannot be told, then the weakest link of the chance."""
    pool, bounds = judged.pool, judged.limits
    links = np.stack([pool.p_ok, *(np.where(b.known, b.probability, 0.0) for b in bounds)])
    last = 2 * len(bounds)
    codes: NDArray[np.int64] = last + 1 + np.argmin(links, axis=0)
    codes[np.isnan(pool.value)] = last
    for k in reversed(range(len(bounds))):
        codes[~bounds[k].allowed] = 2 * k + 1
        codes[~bounds[k].known] = 2 * k
    return codes


def _reasons(judged: Judged) -> list[tuple[ExcludedBy, Tell]]:
    """What each code means, and how to say it of one candidate."""
    table: list[tuple[ExcludedBy, Tell]] = []
    for limit in judged.limits:
        unknown: ExcludedBy = "quality" if limit.kind == "quality" else "unknown"
        table += [(unknown, partial(_unknown, limit.label)), (cast(ExcludedBy, limit.kind), limit.text)]
    table += [("unknown", partial(_unvalued, judged)), ("unlikely", partial(_unlikely, judged))]
    return table + [(cast(ExcludedBy, limit.kind), limit.text) for limit in judged.limits]


def _unknown(label: str, i: int) -> str:
    return f"nothing is known to hold {label} against"


def _unvalued(judged: Judged, i: int) -> str:
    pool = judged.pool
    priced = pool.objective.aim in PRICED and np.isnan(pool.usd_per_hour[i])
    if not priced:
        return f"no prediction to judge {pool.objective.aim} by"
    device = pool.pairs[i][0].device.name
    return (
        f"no price of {device} to judge {pool.objective.aim} by: give one ({device}@DOLLARS) or another aim"
    )


def _unlikely(judged: Judged, i: int) -> str:
    """A low chance of running has two causes: memory that is nearly short, and failures in the history."""
    pool, (machine, method) = judged.pool, judged.pool.pairs[i]
    need = requirement(pool.model, method, machine, pool.workload)
    tight = need is not None and need.least_gib > TIGHT * need.available_gib
    why = f"memory is tight: {need.reason}" if need and tight else "runs like it failed in the history"
    return f"runs with a probability of {pool.p_ok[i]:.0%} only: {why}"


def grouped(found: Sequence[Failure], most: int) -> list[Group]:
    """One entry per limit, hardware and engine, told by its nearest miss; the largest groups first."""
    groups: dict[tuple[str, str, int, str], list[Failure]] = {}
    for failure in found:
        groups.setdefault(_name(failure), []).append(failure)
    kept = sorted(groups.items(), key=lambda item: (-_count(item[1]), item[0]))[:most]
    return [_told(group) for _, group in kept]


def reasons(groups: Sequence[Group], most: int) -> str:
    """Limits and reasons of the first groups in one line, equal reasons once."""
    told: dict[tuple[str, str], int] = {}
    for group in groups:
        said = (group.excluded.limit, group.excluded.reason.removesuffix(_more(group.count)))
        told[said] = told.get(said, 0) + group.count
    return "; ".join(
        f"{limit}: {reason}{_more(count)}" for (limit, reason), count in list(told.items())[:most]
    )


def _more(count: int) -> str:
    return f" ({count - 1} more like it)" if count > 1 else ""


def _name(failure: Failure) -> tuple[str, str, int, str]:
    machine, method = failure.pair
    return failure.limit, machine.device.name, machine.count or 0, method.engine


def _told(group: Sequence[Failure]) -> Group:
    top = max(failure.closeness for failure in group)
    nearest = _nearest([failure for failure in group if failure.closeness == top])
    machine, method = nearest.pair
    count = _count(group)
    reason = nearest.tell(nearest.place) + _more(count)
    return Group(Excluded(hardware=machine, method=method, limit=nearest.limit, reason=reason), count)


def _count(group: Sequence[Failure]) -> int:
    return sum(failure.alike for failure in group)


def _nearest(tied: Sequence[Failure]) -> Failure:
    """Of equally near ones that of the smallest content id, of the method, then of the hardware."""
    for side in (1, 0):
        if len(tied) == 1:
            break
        names = [failure.pair[side].id for failure in tied]
        tied = [failure for failure, name in zip(tied, names, strict=True) if name == min(names)]
    return tied[0]
