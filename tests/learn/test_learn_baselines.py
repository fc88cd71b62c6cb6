"""The static rules and the classics, on tables whose answers are known."""

import numpy as np
import pytest
from learn_tables import THROUGHPUT, fixed, loads, record

from metainf.domain import Metrics
from metainf.learn.baselines import Chooser, FairBest, Random, SingleBest
from metainf.learn.classics import Alors, Isac, factorise
from metainf.learn.table import Table, table
from metainf.learn.views import Score, View, budgets, judge, options

FIXED = View("tokens_per_s_per_device", None, "family")
BUDGET = View("tokens_per_s_per_device", "tpot_s", "family")


def judged(chooser: Chooser, train: Table, test: Table, view: View, told: bool = False) -> Score:
    chooser.fit(train, view)
    found = options(test, view)
    return judge(found, budgets(found, view), chooser.score(test, found, told), told)


def row(model: str, **speeds: float) -> list[object]:
    return [record(model, engine, Metrics(output_tokens_per_s=speed)) for engine, speed in speeds.items()]


def test_random_is_its_own_expectation() -> None:
    rows = fixed()
    score = judged(Random(), rows, rows, FIXED)
    expected = [np.mean([1 - v / max(r.values()) for v in r.values()]) for r in THROUGHPUT.values()]
    assert sorted(score.regret) == pytest.approx(sorted(expected))
    assert score.hit.tolist() == pytest.approx([1 / 3] * len(THROUGHPUT))


def test_the_single_best_keeps_one_answer_for_each_budget() -> None:
    score = judged(SingleBest(), loads(("alpha",)), loads(("beta",)), BUDGET)
    assert not score.regret.any(), "at 2, 3 and 4 s per token the best loads are 2, 3 and 4"


def test_told_the_single_best_learns_from_feasible_decisions_alone() -> None:
    rows = []
    for model in ("alpha", "beta"):
        for load, (tokens, wait) in {1: (10, 1), 2: (20, 2), 3: (90, 9), 4: (30, 3), 5: (40, 4)}.items():
            found = Metrics(output_tokens_per_s=float(tokens), tpot_s=float(wait))
            rows.append(record(model, "x", found, concurrency=float(load)))
    both = table(rows)
    test = both.take(both.keys["model"] == "beta")
    for chooser in (SingleBest(), SingleBest(blind=True)):
        assert not judged(chooser, both, test, BUDGET, told=True).infeasible.any()


def test_an_option_seen_once_counts_little_for_the_shrunk_rule() -> None:
    train = table([
        *row("alpha", x=100.0, y=80.0), *row("beta", x=100.0, y=80.0), *row("gamma", x=100.0, y=80.0),
        *row("delta", y=99.0, z=100.0),
    ])  # fmt: skip
    test = table(row("zeta", x=100.0, z=50.0))
    assert judged(SingleBest(), train, test, FIXED).regret[0] == pytest.approx(0.25), "x and z tie at 1"
    assert judged(FairBest(), train, test, FIXED).regret.tolist() == [0.0]


def test_for_the_shrunk_rule_a_new_option_is_average() -> None:
    train = table([*row("alpha", x=100.0, y=50.0), *row("beta", x=100.0, y=50.0)])
    chooser, test = FairBest(), table(row("zeta", y=50.0, new=100.0))
    assert judged(chooser, train, test, FIXED).regret.tolist() == [0.0]
    found = options(test, FIXED)
    scores = chooser.score(test, found, False)[:, 0]
    ratio = {name.split("|")[0]: score for name, score in zip(found.name, scores, strict=True)}
    assert ratio == pytest.approx({"new": 1.0, "y": (2 * (0.5 / 0.75) + 3) / 5})


def test_isac_answers_by_cluster() -> None:
    rows = fixed()
    score = judged(Isac(clusters=5), rows, rows, FIXED)
    assert not score.regret.any(), "each setting is a cluster of its own"
    one = judged(Isac(clusters=1), rows, rows, FIXED)
    assert one.regret.tolist() == judged(SingleBest(), rows, rows, FIXED).regret.tolist()


@pytest.mark.parametrize("view", [FIXED, BUDGET], ids=["fixed", "budget"])
def test_alors_repeats_what_it_was_shown(view: View) -> None:
    rows = fixed() if view is FIXED else loads()
    chooser = Alors(rank=2)
    score = judged(chooser, rows, rows, view, told=True)
    assert score.regret.mean() < judged(Random(), rows, rows, view, told=True).regret.mean()
    assert score.regret.tolist() == judged(Alors(rank=2), rows, rows, view, told=True).regret.tolist()


def test_factors_fill_the_gaps_of_a_matrix_of_rank_one() -> None:
    whole = np.outer([1.0, 0.5, 0.8, 0.9], [1.0, 0.4, 0.7])
    gaps = whole.copy()
    gaps[3, 2] = np.nan
    cases, names = factorise(gaps, 1, 50, 1e-6)
    assert (cases @ names.T)[3, 2] == pytest.approx(whole[3, 2], rel=1e-3)
