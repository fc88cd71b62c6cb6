"""A predictor that answers with arrays gives the same selection as one that answers with objects."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_fakes import MODEL, WORK, machine, method

from metainf.domain import (
    BadInput,
    Candidate,
    Hardware,
    Method,
    Model,
    NoFeasible,
    Objective,
    Prediction,
    Selection,
)
from metainf.domain import Workload as Work
from metainf.learn.forecast import Forecast, predictions
from metainf.selection import Pair, Rules, Target, select, size

METRICS = ("output_tokens_per_s", "requests_per_s", "ttft_s", "tpot_s", "e2e_s")
MACHINES = [(machine("a"), 1.0), (machine("b", 2), 3.0), (machine("c"), None)]
METHODS = [method(i) for i in range(4)]
logs = st.one_of(st.floats(-6, 6), st.just(float("nan")))
rows = st.lists(
    st.tuples(*[st.tuples(logs, st.floats(0, 3)) for _ in METRICS], st.floats(0, 1)),
    min_size=len(MACHINES) * len(METHODS),
    max_size=len(MACHINES) * len(METHODS),
)
limits = st.fixed_dictionaries(
    {},
    optional={
        "aim": st.sampled_from(["throughput", "throughput_per_dollar", "cost", "ttft", "tpot", "latency"]),
        "max_ttft_s": st.floats(0.01, 10),
        "max_usd": st.floats(0.01, 10),
        "max_usd_per_hour": st.floats(0.5, 4),
        "min_requests_per_s": st.floats(0.01, 10),
        "min_quality_recovery": st.just(0.9),
        "confidence": st.floats(0.05, 0.9),
    },
)
RULES = Rules(recovery={"bf16": 1.0, "fp8": 0.99, "awq": 0.8})


class Objects:
    """A fake that answers with a Prediction for each pair."""

    def __init__(self, found: Forecast) -> None:
        self.found = found

    def predict(self, model: Model, workload: Work, pairs: Sequence[Pair]) -> list[Prediction]:
        return predictions(self.found)


class Arrays(Objects):
    """A fake that offers arrays too, and must not be asked for objects."""

    def forecast(self, model: Model, workload: Work, pairs: Sequence[Pair]) -> Forecast:
        return self.found

    def predict(self, model: Model, workload: Work, pairs: Sequence[Pair]) -> list[Prediction]:
        raise AssertionError("objects were asked of a predictor that offers arrays")


def forecast_of(table: Sequence[Sequence[object]]) -> Forecast:
    sides = np.array([row[:-1] for row in table], dtype=np.float64)
    names = dict(enumerate(METRICS))
    return Forecast(
        {name: sides[:, i, 0] for i, name in names.items()},
        {name: sides[:, i, 1] for i, name in names.items()},
        np.array([row[-1] for row in table], dtype=np.float64),
    )


def answer(predictor: Objects, objective: Objective) -> Selection | str:
    try:
        return select(MODEL, WORK, objective, MACHINES, predictor, lambda _: METHODS, RULES)
    except NoFeasible as error:
        return str(error)


def pair(candidate: Candidate) -> tuple[Hardware, Method]:
    return candidate.hardware, candidate.method


@settings(max_examples=200, deadline=None)
@given(rows, limits)
def test_arrays_and_objects_select_the_same(table, bounds) -> None:  # type: ignore[no-untyped-def]
    found, objective = forecast_of(table), Objective.of(bounds)
    one, other = answer(Arrays(found), objective), answer(Objects(found), objective)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    assert [e.limit for e in one.excluded] == [e.limit for e in other.excluded]
    assert {pair(c) for c in one.ranked} == {pair(c) for c in other.ranked}
    by_pair = {pair(c): c for c in other.ranked}
    for candidate in one.ranked:
        twin = by_pair[pair(candidate)]
        assert candidate.prediction == twin.prediction
        assert candidate.score == pytest.approx(twin.score, rel=1e-9)
        assert candidate.p_feasible == pytest.approx(twin.p_feasible, rel=1e-9)
    for left, right in zip(one.ranked, other.ranked, strict=True):
        assert left.score == pytest.approx(right.score, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows, st.floats(0.1, 20))
def test_arrays_and_objects_size_the_same(table, rate) -> None:  # type: ignore[no-untyped-def]
    found, told = forecast_of(table), []
    target = Target(request_rate_per_s=rate, percentile="p90")
    for kind in (Arrays, Objects):
        try:
            sized = size(MODEL, WORK, Objective(), MACHINES, kind(found), lambda _: METHODS, target)
        except NoFeasible as error:
            told.append([str(error)])
            continue
        told.append([(s.method.id, s.hardware.id, s.replicas) for s in sized])
    assert told[0] == told[1]


def test_arrays_of_the_wrong_length_are_refused() -> None:
    short = Forecast({"ttft_s": np.zeros(2)}, {"ttft_s": np.zeros(2)}, np.ones(2))
    with pytest.raises(BadInput, match="expected 12 predictions, found 2"):
        answer(Arrays(short), Objective())
