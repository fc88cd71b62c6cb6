"""What is known before a run is made: the predictor's word, earlier runs on this machine, and the study."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metainf import catalog
from metainf.api.choosing import load_predictor
from metainf.api.predictable import why_not
from metainf.domain import Method, NotSupported, Record, Setting

if TYPE_CHECKING:
    from metainf.learn.predictor import TrainedPredictor
    from metainf.measure.earlier import Aim, Prior
    from metainf.measure.order import Layout, Planned
    from metainf.measure.plan import Candidate, Known
    from metainf.store import Store


def prior_of(aim: "Aim", predictor: Path | None = None) -> "Prior":
    """The forecasts of a predictor (the shipped one by default). Own runs that it learnt are left out: they
    are told as such. Of an engine or a device that its history does not know the forecast tells how methods
    compare, by arithmetic alone; its chance that a method works is not taken (see `forecasts_level`). It is
    silent of an engine that its history knows on other kinds of devices alone (see `carries_over`)."""
    trained = load_predictor(predictor)

    def prior(setting: Setting, methods: Sequence[Method]) -> list[tuple[float | None, float]]:
        said: list[tuple[float | None, float]] = [(None, 1.0)] * len(methods)
        pairs = [(setting.hardware, method) for method in methods]
        try:
            forecast = trained.plain(setting.model, setting.workload, pairs)
        except NotSupported:
            return said
        median = forecast.log_median.get(aim.metric)
        for place, method in enumerate(methods):
            value = float("nan") if median is None else float(median[place])
            sign = 1.0 if aim.more else -1.0
            chance = min(1.0, max(0.0, float(forecast.p_ok[place])))
            known = forecasts_level(trained, setting, method)
            silent = value != value or not carries_over(trained, setting, method)
            said[place] = (None if silent else sign * value, chance if known and not silent else 1.0)
        return said

    return prior


def forecasts_level(trained: "TrainedPredictor", setting: Setting, method: Method) -> bool:
    """Whether a predictor's history says how fast a method is in a setting, not only how methods compare."""
    return method.engine in trained.engines() and why_not(setting.hardware) is None


def carries_over(trained: "TrainedPredictor", setting: Setting, method: Method) -> bool:
    """Whether what a predictor says of an engine tells how its methods compare on a device: not where it
    learnt the engine on other kinds of devices alone (on GPUs, and a processor is asked about), for what it
    learnt is of those. Of an engine that it does not know at all, the arithmetic alone speaks."""
    learnt = [catalog.devices().get(name) for name in trained.known["hardware"]]
    kinds = {device.kind for device in learnt if device is not None}
    return method.engine not in trained.engines() or setting.hardware.device.kind in kinds


def earlier_runs(store: "Store | None", candidates: "Sequence[Candidate]") -> list[Record]:
    """What was measured before on the candidates' devices, oldest first."""
    from metainf.measure.trial import SOURCE
    from metainf.store import Filter

    if store is None:
        return []
    devices = sorted({one.setting.hardware.device.name for one in candidates})
    return [record for name in devices for record in store.query(Filter(source=SOURCE, device=name))]


def lessons(
    earlier: Sequence[Record],
    candidates: "Sequence[Candidate]",
    aim: "Aim",
    prior: "Prior",
    floor: float | None = None,
) -> "list[Known]":
    """What the study that ships tells of how methods compare, of the engines of which the forecast is silent:
    contrasts of another machine. Where the forecast speaks, it chooses better alone
    (docs/closing_the_loop.md). Of the study's runs, those that this store holds too are this machine's own,
    and not counted twice."""
    from metainf.measure.earlier import lessons_of
    from metainf.study.parts import shipped

    silent = [one for one in candidates if one.log_value is None]
    if not silent:
        return []
    own = {record.id for record in earlier}
    return lessons_of([record for record in shipped() if record.id not in own], silent, aim, prior, floor)


def picked(
    layout: "Layout", most: int, store: "Store | None", budget_s: float | None
) -> "tuple[Layout, dict[tuple[str, str], str]]":
    """The layout with only those runs (each with its repeats) whose results would most likely change a
    choice by throughput, in the order of their worth; and why, by `Planned.pair`."""
    from metainf.measure.earlier import aim_of, candidates_of, known_of
    from metainf.measure.plan import plan

    repeats: dict[tuple[str, str], list[Planned]] = {}
    for each in layout.runs:
        repeats.setdefault(each.pair, []).append(each)
    if not repeats:
        return layout, {}
    aim = aim_of("throughput")
    prior = prior_of(aim)
    firsts = [runs[0] for runs in repeats.values()]
    candidates = [
        replace(one, seconds=sum(each.expected_s for each in runs))
        for one, runs in zip(candidates_of(firsts, prior), repeats.values(), strict=True)
    ]
    earlier = earlier_runs(store, candidates)
    known = known_of(earlier, candidates, aim, prior, forgive=False)
    known += lessons(earlier, candidates, aim, prior)
    picks = plan(candidates, known, float("inf") if budget_s is None else budget_s, most)
    why = {firsts[pick.place].pair: pick.why for pick in picks}
    return replace(layout, runs=tuple(run for pair in why for run in repeats[pair])), why
