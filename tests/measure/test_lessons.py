"""What another machine's runs teach: how methods compare, weakly, and nothing of this machine's level."""

import math
from dataclasses import replace

import numpy as np
import pytest
from planned_runs import HARDWARE, METHODS, candidates, record, truth

from metainf import catalog
from metainf.api.planning import lessons, prior_of
from metainf.domain import Batching, Device, Failed, Hardware, Method, Record
from metainf.learn.places import places
from metainf.measure.earlier import aim_of, lessons_of
from metainf.measure.plan import Candidate, Picture, picture, plan
from metainf.measure.tune import Ran, Rules, Try, search, step, tune
from metainf.study.parts import shipped

AIM = aim_of("throughput")
SAME = HARDWARE
OTHER = Hardware(device=Device(name="b-cpu", kind="cpu", memory_gib=16.0), count=1)
GPU = Hardware(device=Device(name="a-gpu", kind="gpu", memory_gib=16.0), count=1)


def silent(_: object, methods: list) -> list[tuple[None, float]]:  # type: ignore[type-arg]
    return [(None, 1.0)] * len(methods)


def runs(hardware: Hardware, factor: float = 10.0) -> list[Record]:
    """All runs of the made-up machine on another one that is faster at everything."""
    found = [record(one, factor) for one in candidates(("shared", "long", "half"))]
    settings = [each.setting.model_copy(update={"hardware": hardware}) for each in found]
    return [e.model_copy(update={"setting": s}) for e, s in zip(found, settings, strict=True)]


def chat() -> list[Candidate]:
    """One task that no lesson has."""
    return [one for one in candidates(("chat",)) if one.task == "chat 16"]


def seen(hardware: Hardware) -> Picture:
    return picture(chat(), lessons_of(runs(hardware), chat(), AIM, silent))


def doubt(given: Picture) -> float:
    """Standard deviation of the least sure comparison of two candidates."""
    c = given.beliefs.covariance[np.ix_(given.place, given.place)]
    apart = np.diag(c)[:, None] + np.diag(c) - 2 * c
    return math.sqrt(apart.max())


def test_how_methods_compare_is_taught_and_the_level_is_not() -> None:
    found, true = seen(OTHER), np.array([truth(one) for one in chat()])
    mean = found.beliefs.mean[found.place]
    assert true.max() - true[int(np.argmax(mean))] < 0.1
    assert np.corrcoef(mean, true)[0, 1] > 0.8
    level = np.sqrt(np.diag(found.beliefs.covariance)[found.place])
    assert level.min() > 1.0, "a factor of ten on the other machine says nothing of this one"


def test_the_farther_the_machine_the_wider_the_beliefs() -> None:
    nothing = doubt(picture(chat(), []))
    same, other, gpu = (doubt(seen(hardware)) for hardware in (SAME, OTHER, GPU))
    assert same < other < gpu
    assert gpu < 3 * nothing, "even so far away the beliefs stay sane"


def test_own_runs_overrule_a_lesson() -> None:
    every = chat()
    taught = lessons_of(runs(OTHER), every, AIM, silent)
    wrong = {one.method.id: -truth(one) for one in every}
    verdict, _ = tune(
        search(every, Rules(worth=0.0), taught),
        lambda one, _: Ran(math.exp(wrong[one.method.id]), 1.0),
    )
    assert verdict.winner is not None
    assert wrong[every[verdict.winner].method.id] == max(wrong.values())


def test_with_lessons_the_first_run_is_a_good_one() -> None:
    lost: dict[bool, list[float]] = {False: [], True: []}
    for task in ("chat 1", "chat 4", "chat 16"):
        every = [one for one in candidates(("chat",)) if one.task == task]
        best = max(truth(one) for one in every)
        for taught in (False, True):
            known = lessons_of(runs(OTHER), every, AIM, silent) if taught else []
            first = step(search(every, known=known))
            assert isinstance(first, Try)
            lost[taught].append(best - truth(every[first.place]))
    assert np.mean(lost[True]) < 0.5 * np.mean(lost[False])


def test_what_failed_or_broke_the_floor_elsewhere_is_less_likely_to_work() -> None:
    every, good = chat(), runs(OTHER)
    failed = [r.model_copy(update={"outcome": Failed(reason="crashed")}) for r in good]

    def low(each: Record) -> Record:
        assert each.metrics is not None
        metrics = each.metrics.model_copy(update={"quality": 0.1, "quality_metric": "greedy_agreement"})
        return each.model_copy(update={"outcome": each.outcome.model_copy(update={"metrics": metrics})})

    for taught in (
        lessons_of(failed, every, AIM, silent),
        lessons_of([low(each) for each in good], every, AIM, silent, 0.25),
    ):
        found = picture(every, taught)
        assert found.beliefs.p_ok[found.place].max() < 0.9
    assert picture(every, lessons_of(good, every, AIM, silent)).beliefs.p_ok[: len(every)].min() > 0.99


def test_repeats_are_merged_and_other_engines_left_out() -> None:
    every = [one for one in chat() if one.method.engine == "one"]
    taught = lessons_of([*runs(OTHER), *runs(OTHER, 1000.0)], every, AIM, silent)
    assert len(taught) == len(runs(OTHER)) // 2
    assert {known.candidate.method.engine for known in taught} == {"one"}
    first = taught[0]
    assert first.log_value == pytest.approx(truth(first.candidate) + math.log(100.0))


def test_a_plan_holds_runs_of_this_machine_alone() -> None:
    every = candidates(("chat", "half"))
    picks = plan(every, lessons_of(runs(OTHER), every, AIM, silent), most=5)
    assert len(picks) == 5 and all(0 <= pick.place < len(every) for pick in picks)


def test_batches_of_all_in_flight_are_one_method_at_every_load() -> None:
    four, sixteen, few = (
        METHODS["one continuous"].model_copy(
            update={"techniques": (Batching(mode="continuous", max_sequences=count),)}
        )
        for count in (4, 16, 2)
    )
    settings = [one.setting for one in candidates(("chat",)) if one.method == METHODS["one plain"]]
    low, high = settings[1], settings[2]
    where = places([low, high, high], [four, sixteen, few], ["low", "high", "high"])
    assert where.kind[0] == where.kind[1] != where.kind[2]


def test_the_study_teaches_but_its_own_runs_are_not_counted_twice() -> None:
    study = shipped()
    if not study:
        pytest.skip("no study is packaged")
    engine = study[0].method.engine
    mine = [replace(one, method=one.method.model_copy(update={"engine": engine})) for one in chat()]
    taught = lessons([], mine, AIM, silent)
    assert taught and {known.candidate.method.engine for known in taught} == {engine}
    assert all(known.candidate.machine for known in taught)
    assert lessons(study, mine, AIM, silent) == []


def test_what_was_learnt_on_gpus_is_not_carried_over_to_a_processor() -> None:
    """vLLM is known from GPUs alone, llama.cpp from no serving run: of that one the arithmetic speaks."""
    prior, work = prior_of(AIM), chat()[0].setting
    model = catalog.models()["meta-llama/Llama-3.1-8B"]
    gpu = Hardware(device=catalog.devices()["l4"], count=1)
    processor = gpu.model_copy(update={"device": gpu.device.model_copy(update={"kind": "cpu"})})

    def speaks(engine: str, hardware: Hardware) -> bool:
        setting = work.model_copy(update={"model": model, "hardware": hardware})
        ((said, chance),) = prior(setting, [Method(engine=engine)])
        assert said is not None or chance == 1.0
        return said is not None

    assert speaks("vllm", gpu) and not speaks("vllm", processor)
    assert speaks("llama.cpp", processor)
