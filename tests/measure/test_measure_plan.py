"""The planner asks for the runs that could change a choice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_runs import candidates, truth

from metainf.domain import BadInput
from metainf.measure.beliefs import Beliefs, at_stake, contrasts, gained, improved
from metainf.measure.plan import Candidate, Known, picture, plan


def beliefs(mean: list[float], sd: list[float], task: list[int], noise: float = 0.0) -> Beliefs:
    n = len(mean)
    return Beliefs(
        np.array(mean), np.diag(np.array(sd) ** 2), noise, np.array(task), np.ones(n, dtype=bool), np.ones(n)
    )


def regret(every: list[Candidate], known: list[Known]) -> float:
    seen = picture(every, known)
    mean = seen.beliefs.mean[seen.place]
    lost = []
    for task in dict.fromkeys(one.task for one in every):
        rows = [i for i, one in enumerate(every) if one.task == task]
        pick = max(rows, key=lambda i: mean[i])
        lost.append(1 - np.exp(truth(every[pick]) - max(truth(every[i]) for i in rows)))
    return float(np.mean(lost))


def test_the_gain_is_the_expected_improvement_of_two_independent_options() -> None:
    two = beliefs([0.0, -0.2], [0.0, 0.4], [0, 0])
    hope, _, best = contrasts(two)
    drawn = np.random.default_rng(0).normal(-0.2, 0.4, 400_000)
    assert best.tolist() == [0, 0]
    assert hope[1] == pytest.approx(np.maximum(drawn, 0).mean(), rel=0.02)
    assert gained(two)[1] == pytest.approx(hope[1], rel=0.15)
    assert gained(two)[0] == 0


def test_a_run_that_cannot_change_the_choice_is_worth_nothing() -> None:
    sure = beliefs([0.0, -5.0], [0.01, 0.01], [0, 0])
    assert gained(sure).max() < 1e-9 and at_stake(sure).max() < 1e-9 and improved(sure).max() < 1e-9


def test_a_task_with_one_option_is_worth_no_run() -> None:
    assert gained(beliefs([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0, 1, 1]))[0] == pytest.approx(0, abs=1e-9)


def test_what_failed_is_not_chosen() -> None:
    one = beliefs([1.0, 0.0], [0.1, 0.1], [0, 0])
    one.alive[0] = False
    assert one.chosen().tolist() == [1, 1]
    one.alive[1] = False
    assert gained(one).tolist() == [0, 0]


def test_the_planner_learns_faster_than_chance() -> None:
    every = candidates()
    runs = len(every) // 10
    known: list[Known] = []
    for _ in range(runs):
        pick = plan(every, known, most=1)[0]
        known.append(Known(every[pick.place], truth(every[pick.place])))
    planned = regret(every, known)
    by_chance = []
    for seed in range(8):
        rows = np.random.default_rng(seed).choice(len(every), runs, replace=False)
        by_chance.append(regret(every, [Known(every[i], truth(every[i])) for i in rows]))
    assert planned < 0.8 * np.mean(by_chance)
    assert planned < 0.6 * regret(every, [])


def test_runs_correct_a_forecast_that_is_wrong_about_one_technique() -> None:
    every = candidates(prior=True)
    before, known = regret(every, []), list[Known]()
    for _ in range(16):
        place = plan(every, known, most=1)[0].place
        known.append(Known(every[place], truth(every[place])))
    assert before > 0.1 and regret(every, known) < 0.5 * before


def test_picks_are_told_apart_and_explained() -> None:
    every = candidates(("chat", "shared"))
    picks = plan(every, most=8)
    assert len({pick.place for pick in picks}) == 8
    assert all("present choice of" in pick.why for pick in picks)
    assert all(pick.worth >= 0 for pick in picks)
    again = plan(every[::-1], most=1)[0]
    assert every[::-1][again.place].setting == every[picks[0].place].setting


def test_known_runs_are_not_planned_again_and_failures_teach() -> None:
    every = candidates(("chat",))
    failed = [Known(one, None) for one in every if one.method.engine == "two"]
    picks = plan(every, failed)
    assert {every[pick.place].method.engine for pick in picks} == {"one"}
    other = [Known(one, None) for one in candidates(("long",)) if one.method.engine == "two"]
    chance = picture(every, other).beliefs.p_ok[: len(every)]
    engines = np.array([one.method.engine for one in every])
    assert chance[engines == "two"].max() < chance[engines == "one"].min()


def test_cheap_runs_come_first_where_all_else_is_equal() -> None:
    every = candidates(("chat",))[:10]
    dear = [Candidate(c.setting, c.method, c.task, 1000.0 if i % 2 else 1.0) for i, c in enumerate(every)]
    assert all(pick.place % 2 == 0 for pick in plan(dear, most=2))


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 2000), st.lists(st.floats(1, 500), min_size=30, max_size=30), st.integers(0, 12))
def test_a_plan_keeps_its_budget(budget: float, seconds: list[float], most: int) -> None:
    every = [
        Candidate(one.setting, one.method, one.task, s)
        for one, s in zip(candidates(("chat",)), seconds, strict=True)
    ]
    picks = plan(every, budget_s=budget, most=most)
    assert len(picks) <= most
    assert sum(seconds[pick.place] for pick in picks) <= budget + 1e-6


@pytest.mark.parametrize(
    ("change", "told"),
    [({"seconds": 0.0}, "seconds"), ({"p_ok": 1.5}, "p_ok")],
)
def test_bad_candidates_are_refused(change: dict[str, float], told: str) -> None:
    one = candidates(("chat",))[0]
    facts = {"seconds": 1.0, "p_ok": 1.0} | change
    bad = Candidate(one.setting, one.method, one.task, facts["seconds"], None, facts["p_ok"])
    with pytest.raises(BadInput, match=told):
        plan([bad])
    with pytest.raises(BadInput, match="found none"):
        plan([])
