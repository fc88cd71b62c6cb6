"""What no change of order or limit may do to a selection."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_fakes import ask, prediction

from metainf.domain import (
    NoFeasible,
    Objective,
    Prediction,
)

pools = st.lists(
    st.tuples(
        st.floats(1, 1e4),
        st.floats(0.01, 5),
        st.sampled_from([0.0, 0.4, 0.9, 1.0]),
        st.sampled_from([1.0, 1.2, 3.0]),
    ),
    min_size=1,
    max_size=12,
)
aims = st.sampled_from(["throughput", "throughput_per_dollar", "cost", "ttft", "tpot", "latency"])


def table(pool: Sequence[tuple[float, float, float, float]]) -> dict[tuple[str, int], Prediction]:
    return {
        ("ab"[i % 2], i + 1): prediction(speed, ttft, ttft / 10, p_ok, factor)
        for i, (speed, ttft, p_ok, factor) in enumerate(pool)
    }


PRICES = {"a": 1.0, "b": 3.0}


def winning(run: Callable[[], object]) -> float:
    try:
        return run().ranked[0].score  # type: ignore[attr-defined,no-any-return]
    except NoFeasible:
        return 0.0


@settings(max_examples=150, deadline=None)
@given(
    pools,
    aims,
    st.floats(0.05, 6),
    st.floats(0.1, 1.0),
    st.sampled_from(["max_ttft_s", "max_usd", "max_usd_per_hour"]),
)
def test_tightening_a_limit_never_improves_the_winner(pool, aim, bound, share, name) -> None:  # type: ignore[no-untyped-def]
    answers = table(pool)
    loose = winning(lambda: ask(answers, Objective.of({"aim": aim, name: bound}), PRICES))
    tight = winning(lambda: ask(answers, Objective.of({"aim": aim, name: bound * share}), PRICES))
    none = winning(lambda: ask(answers, Objective.of({"aim": aim}), PRICES))
    assert tight <= loose <= none


@settings(max_examples=150, deadline=None)
@given(pools, aims, st.floats(0.5, 4), st.floats(0.5, 50))
def test_nothing_returned_breaks_a_budget(pool, aim, hourly, total) -> None:  # type: ignore[no-untyped-def]
    objective = Objective.of({"aim": aim, "max_usd_per_hour": hourly, "max_usd": total})
    try:
        found = ask(table(pool), objective, PRICES)
    except NoFeasible:
        return
    for candidate in found.ranked:
        assert candidate.usd_per_hour <= hourly
        speed = candidate.prediction.metrics["output_tokens_per_s"].value
        assert candidate.usd_per_hour * 360000 / speed / 3600 <= total * (1 + 1e-9)
        assert candidate.prediction.p_ok > 0
        assert candidate.p_feasible >= objective.confidence


@settings(max_examples=100, deadline=None)
@given(pools, aims, st.randoms(use_true_random=False), st.floats(0.1, 5))
def test_the_order_of_candidates_is_irrelevant(pool, aim, random, bound) -> None:  # type: ignore[no-untyped-def]
    answers = table(pool)
    shuffled = list(answers.items())
    random.shuffle(shuffled)
    objective = Objective.of({"aim": aim, "max_ttft_s": bound})
    try:
        first = ask(answers, objective, PRICES)
    except NoFeasible as error:
        with pytest.raises(NoFeasible) as caught:
            ask(dict(shuffled), objective, dict(reversed(PRICES.items())))
        assert str(caught.value) == str(error)
        return
    assert ask(dict(shuffled), objective, dict(reversed(PRICES.items()))) == first
