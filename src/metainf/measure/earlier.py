"""Runs that are laid out and runs that were made, in the words of the planners. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from metainf.domain import Method, Record, Setting, UnknownName, Workload
from metainf.measure.asked import asked_workload
from metainf.measure.order import Planned, is_hopeless, unversioned
from metainf.measure.plan import Candidate, Known

MOST = 300
"""Earlier runs that are learnt from, the newest."""
FORGIVEN = "earlier failures"

Prior = Callable[[Setting, Sequence[Method]], Sequence[tuple[float | None, float]]]
"""For each method the forecast of what is maximised (natural log; None: nothing is known of its engine), and
the chance that it works."""


@dataclass(frozen=True)
class Aim:
    """What is to be best: a metric, its unit, and whether more of it is better."""

    name: str
    metric: str
    unit: str
    more: bool

    def value(self, record: Record) -> float | None:
        """What is maximised (above 0); None for a failure, or where it was not measured."""
        shown = None if record.metrics is None else getattr(record.metrics, self.metric)
        if not shown or shown <= 0 or not math.isfinite(shown):
            return None
        return float(shown if self.more else 1 / shown)

    def shown(self, value: float) -> float:
        """A value as its metric."""
        return value if self.more else 1 / value


AIMS = {
    aim.name: aim
    for aim in (
        Aim("throughput", "output_tokens_per_s", "tokens/s", True),
        Aim("latency", "e2e_s", "s for a request", False),
        Aim("ttft", "ttft_s", "s to the first token", False),
        Aim("tpot", "tpot_s", "s per token", False),
        Aim("energy", "energy_j_per_token", "J per token", False),
    )
}


def aim_of(name: str) -> Aim:
    """The aim of this name. UnknownName with near misses."""
    if name not in AIMS:
        raise UnknownName("aim", name, AIMS)
    return AIMS[name]


def candidates_of(planned: Sequence[Planned], prior: Prior) -> list[Candidate]:
    """The runs as candidates, in their order; runs of one traffic are one task."""
    settings: dict[str, Setting] = {}
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(planned):
        key, subject = repr(each.run.traffic), each.run.subject
        if key not in settings:
            work = asked_workload(each.run.traffic)
            settings[key] = Setting(model=subject.model, workload=work, hardware=subject.hardware)
        groups.setdefault(key, []).append(place)
    found: dict[int, Candidate] = {}
    for key, places in groups.items():
        setting = settings[key]
        methods = [planned[place].run.method for place in places]
        for place, (value, chance) in zip(places, prior(setting, methods), strict=True):
            each = planned[place]
            found[place] = Candidate(
                setting, each.run.method, task_of(setting.workload), each.expected_s, value, chance
            )
    return [found[place] for place in range(len(planned))]


def known_of(
    records: Sequence[Record],
    candidates: Sequence[Candidate],
    aim: Aim,
    prior: Prior,
    forgive: bool,
    floor: float | None = None,
) -> list[Known]:
    """What earlier runs on the candidates' devices tell, of the candidates and of others like them.

    A run of a candidate's own task counts as a run of that candidate, whatever the engine's version. With
    `forgive` what failed before may be tried again; it is only less likely to work. floor: the least quality;
    a run that measured less breaks it.
    """
    first = {_key(one.setting): one.setting for one in candidates}
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records[-MOST:]:
        groups.setdefault(_key(record.setting), []).append(record)
    found = []
    for key, runs in groups.items():
        setting = first.get(key, runs[0].setting)
        methods = [unversioned(record.method) for record in runs]
        for record, method, (said, chance) in zip(runs, methods, prior(setting, methods), strict=True):
            value, failed = aim.value(record), record.metrics is None
            if value is None and not failed:
                continue
            task = FORGIVEN if failed and (forgive or not is_hopeless(record)) else _task(setting, candidates)
            one = Candidate(setting, method, task, 1.0, said, chance)
            found.append(Known(one, None if value is None else math.log(value), _meets([record], floor)))
    return found


def lessons_of(
    records: Sequence[Record],
    candidates: Sequence[Candidate],
    aim: Aim,
    prior: Prior,
    floor: float | None = None,
) -> list[Known]:
    """What runs on another machine tell of how the methods of the candidates' engines compare; nothing of
    this machine's level. Repeats are merged: the mean of the logs of those that worked, else a failure.
    floor: as for `known_of`."""
    engines = {one.method.engine for one in candidates}
    groups: dict[tuple[str, ...], dict[str, list[Record]]] = {}
    for record in records:
        if record.method.engine in engines:
            key = record.setting.hardware.device.name, *_key(record.setting)
            groups.setdefault(key, {}).setdefault(unversioned(record.method).id, []).append(record)
    found = []
    for (machine, *_), runs in groups.items():
        setting = next(iter(runs.values()))[0].setting
        methods = [unversioned(repeats[0].method) for repeats in runs.values()]
        task = f"{task_of(setting.workload)} of {setting.model.name}"
        said = prior(setting, methods)
        for repeats, method, (value, chance) in zip(runs.values(), methods, said, strict=True):
            one = Candidate(setting, method, task, 1.0, value, chance, machine)
            shown = [math.log(each) for record in repeats if (each := aim.value(record)) is not None]
            if shown or all(record.metrics is None for record in repeats):
                found.append(Known(one, fmean(shown) if shown else None, _meets(repeats, floor)))
    return found


def _meets(records: Sequence[Record], floor: float | None) -> bool:
    """Whether the measured quality keeps a floor; what was not measured breaks none."""
    told = [r.metrics.quality for r in records if r.metrics and r.metrics.quality is not None]
    return floor is None or not told or fmean(told) >= floor


def task_of(work: Workload) -> str:
    """A choice in words: the workload, its load and its length."""
    if work.concurrency is not None:
        load = f"{work.concurrency:g} in flight"
    else:
        load = "all at once" if work.request_rate_per_s is None else f"{work.request_rate_per_s:.3g} a second"
    return f"{work.name or 'a workload'}, {load}, {work.num_requests} requests"


def _task(setting: Setting, candidates: Sequence[Candidate]) -> str:
    """The task of a setting; that of another model is another one."""
    model, task = setting.model, task_of(setting.workload)
    return task if model.id == candidates[0].setting.model.id else f"{task} of {model.name} ({model.id[-6:]})"


def _key(setting: Setting) -> tuple[str, str]:
    """Tells tasks of one device apart: lengths as engines count them differ a little from those asked."""
    return setting.model.id, task_of(setting.workload)
