"""`tune` keeps its promises: its time, a winner that was really run, and the best one if it may run all."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_runs import HARDWARE, METHODS, MODEL, candidates, truth, workload

from metainf.domain import BadInput, Setting
from metainf.measure.plan import Candidate, Known
from metainf.measure.tune import Ran, Rules, Search, Try, Verdict, search, step, tune

SETTING = Setting(model=MODEL, workload=workload("chat", 4), hardware=HARDWARE)
SOME = list(METHODS.values())[:6]
RESULT = st.tuples(st.none() | st.floats(1e-2, 1e4), st.floats(0.1, 300.0), st.none() | st.floats(0, 1))


def offered(priors: list[float | None], seconds: float = 60.0) -> list[Candidate]:
    return [Candidate(SETTING, m, "t", seconds, p) for m, p in zip(SOME, priors, strict=True)]


def of(results: list[tuple[float | None, float, float | None]], every: list[Candidate]):  # type: ignore[no-untyped-def]
    place = {one.method.id: i for i, one in enumerate(every)}

    def run(one: Candidate, at_most_s: float) -> Ran:
        value, seconds, quality = results[place[one.method.id]]
        if seconds > at_most_s:
            return Ran(None, at_most_s, error="timed out")
        return Ran(value, seconds, quality)

    return run


@settings(max_examples=60, deadline=None)
@given(
    st.lists(RESULT, min_size=6, max_size=6),
    st.lists(st.none() | st.floats(-5, 5), min_size=6, max_size=6),
    st.floats(1, 2000),
    st.none() | st.floats(0.1, 0.9),
)
def test_promises(results, priors, limit, floor) -> None:  # type: ignore[no-untyped-def]
    every = offered(priors)
    verdict, done = tune(search(every, Rules(limit_s=limit, quality=floor)), of(results, every))
    assert done.spent_s <= limit * (1 + 1e-9)
    assert all(ran.seconds >= 0 for _, ran in done.runs)
    counts = np.bincount([place for place, _ in done.runs], minlength=6)
    assert counts.max(initial=0) <= done.rules.repeats
    if verdict.winner is not None:
        ran = [ran for place, ran in done.runs if place == verdict.winner]
        assert ran and all(one.value is not None for one in ran)
        assert len(ran) == verdict.runs and verdict.value == pytest.approx(
            np.mean([one.value for one in ran])
        )
        if floor is not None:
            assert all(one.quality is not None and one.quality >= floor for one in ran)
    else:
        assert not any(ran.value is not None and done.meets(ran) for _, ran in done.runs)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.none() | st.floats(0.1, 1000), min_size=6, max_size=6),
    st.lists(st.none() | st.floats(-5, 5), min_size=6, max_size=6),
)
def test_without_noise_and_with_time_the_best_wins(values, priors) -> None:  # type: ignore[no-untyped-def]
    every = offered(priors)
    run = of([(value, 1.0, None) for value in values], every)
    verdict, done = tune(search(every, Rules(worth=0, noise=0.0)), run)
    assert len(done.runs) == 6
    known = [value for value in values if value is not None]
    if not known:
        assert verdict.winner is None and "nothing worked" in verdict.why
    else:
        assert verdict.value == pytest.approx(max(known), rel=2e-3)


def test_few_runs_find_a_good_method() -> None:
    known: list[Known] = []
    lost, runs, total = [], 0, 0
    for task in dict.fromkeys(one.task for one in candidates()):
        every = [one for one in candidates() if one.task == task]

        def run(one: Candidate, _: float) -> Ran:
            return Ran(math.exp(truth(one)), 60.0)

        verdict, done = tune(search(every, Rules(), known), run)
        assert verdict.winner is not None
        lost.append(1 - math.exp(truth(every[verdict.winner]) - max(map(truth, every))))
        runs, total = runs + len(done.runs), total + len(every)
        known += [Known(every[i], math.log(ran.value)) for i, ran in done.runs if ran.value]
    assert np.mean(lost) <= 0.03
    assert runs <= 0.6 * total


def test_the_forecasts_best_is_run_first_and_a_sure_one_ends_the_search() -> None:
    every = offered([0.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    first = step(search(every))
    assert isinstance(first, Try) and first.place == 1
    verdict, done = tune(search(every), of([(v, 1.0, None) for v in (1, 20, 1, 1, 1, 1)], every))
    assert verdict.winner == 1 and len(done.runs) < 6 and verdict.ahead > 0.5


def test_leaders_within_noise_are_run_again() -> None:
    every = offered([0.0, 0.0, -9.0, -9.0, -9.0, -9.0])
    rng = np.random.default_rng(1)

    def run(one: Candidate, _: float) -> Ran:
        base = 10.0 if one.method.id in (SOME[0].id, SOME[1].id) else 0.01
        return Ran(base * float(np.exp(0.3 * rng.standard_normal())), 1.0)

    _, done = tune(search(every, Rules(noise=0.3, worth=0.002, repeats=4)), run)
    counts = np.bincount([place for place, _ in done.runs], minlength=6)
    assert counts[:2].min() >= 2 and counts[2:].max() <= 1


def test_a_fast_method_below_the_floor_does_not_win() -> None:
    every = offered([None] * 6)
    results = [(100.0, 1.0, 0.2), *[(10.0 + i, 1.0, 0.99) for i in range(5)]]
    verdict, _ = tune(search(every, Rules(quality=0.9, worth=0, noise=0.0)), of(results, every))
    assert verdict.winner == 5


def test_the_share_is_kept() -> None:
    every = offered([None] * 6)
    run = of([(10.0 + i, 1.0, None) for i in range(6)], every)
    _, done = tune(search(every, Rules(share=0.34)), run)
    assert len({place for place, _ in done.runs}) == 2


def test_a_search_stops_when_nothing_fits_in_the_time() -> None:
    found = step(search(offered([None] * 6), Rules(limit_s=59.0)))
    assert isinstance(found, Verdict) and found.winner is None and "time" in found.why


def test_bad_searches_are_refused() -> None:
    with pytest.raises(BadInput, match="one task"):
        search(candidates())
    with pytest.raises(BadInput, match="twice"):
        search(offered([None] * 6) * 2)
    with pytest.raises(BadInput, match="time limit"):
        search(offered([None] * 6), Rules(limit_s=0))
    with pytest.raises(BadInput, match="above 0"):
        Search(tuple(offered([None] * 6))).after(0, Ran(-1.0, 1.0))
