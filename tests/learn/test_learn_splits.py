"""Hold-outs share nothing with what they are judged on."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learn_tables import PARAMS_B, fixed, many, record

from metainf.domain import Metrics, Provenance
from metainf.learn.evaluate import bootstrap
from metainf.learn.splits import KEYS, By, folds
from metainf.learn.table import Table, model_base, table

row = st.tuples(
    st.sampled_from(["alpha", "alpha-instruct", "beta", "beta-fp8", "gamma"]),
    st.sampled_from(["x", "y"]),
    st.none() | st.sampled_from([1.0, 2.0, 3.0]),
    st.sampled_from(["small", "large"]),
    st.sampled_from([1.0, 4.0]),
    st.sampled_from([100.0, 200.0]),
    st.none() | st.sampled_from(["2025-01-01", "2025-06-01", "2026-01-01"]),
)


def made(rows: list[tuple[Any, ...]]) -> Table:
    return table(
        record(
            model, engine, None if value is None else Metrics(tpot_s=value), device=device, concurrency=load,
            tokens=tokens, origin=Provenance(source="made-up", date=date, trial=trial),
        )
        for trial, (model, engine, value, device, load, tokens, date) in enumerate(rows)
    )  # fmt: skip


@pytest.mark.parametrize("by", ["model", "hardware", "workload", "time"])
@given(st.lists(row, min_size=1, max_size=14))
@settings(max_examples=40, deadline=None)
def test_train_and_test_share_nothing(by: By, rows: list[tuple[Any, ...]]) -> None:
    found = made(rows)
    for fold in folds(found, by):
        train, test = found.take(fold.train), found.take(fold.test)
        assert len(test) and not set(fold.train) & set(fold.test)
        assert not set(train.keys["cell"]) & set(test.keys["cell"])
        if by != "time":
            key = KEYS[by]
            assert set(test.keys[key]) == {fold.name} and fold.name not in set(train.keys[key])
        else:
            assert max(train.keys["date"], default="") < min(test.keys["date"])
        measured = [
            set(part.metrics["tpot_s"][np.isfinite(part.metrics["tpot_s"])]) for part in (train, test)
        ]
        assert not measured[0] & measured[1], "a measurement stands on both sides"


@given(st.lists(row, min_size=1, max_size=14), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_rolling_split_knows_the_past_alone(rows: list[tuple[Any, ...]], most: int) -> None:
    """Each fold is judged between its dates, trained before them, and the next begins where it ends."""
    found = made(rows)
    dates = found.keys["date"]
    held = list(folds(found, "rolling", most))
    assert len(held) <= most and (len(held) > 0) == (len(set(dates[dates != ""])) > 1)
    for fold, later in pairwise([*held, None]):
        assert fold is not None
        train, test = found.take(fold.train), found.take(fold.test)
        assert fold.until == (later.since if later else "")
        assert max(train.keys["date"], default="") < fold.since <= min(test.keys["date"])
        assert not fold.until or max(test.keys["date"]) < fold.until
        assert not set(train.keys["cell"]) & set(test.keys["cell"])
        assert "" not in set(train.keys["date"])
    judged = [int(place) for fold in held for place in fold.test]
    assert len(judged) == len(set(judged)) and all(dates[place] >= held[0].since for place in judged)


def test_a_year_or_a_span_is_no_date_to_go_by() -> None:
    days = ["2024", "2025-01", "2025-01..2025-07", "2025-02-03", "2025-03-01", "2025-03-01"]
    found = made([("alpha", "x", 1.0 + i, "small", 1.0 + i, 100.0, day) for i, day in enumerate(days)])
    assert [(fold.since, fold.until) for fold in folds(found, "rolling", 1)] == [("2025-03-01", "")]
    assert [found.keys["date"][fold.train].tolist() for fold in folds(found, "rolling", 1)] == [
        ["2025-01", "2025-02-03"]
    ]


@pytest.mark.parametrize("by", ["model", "hardware", "workload"])
@given(st.lists(row, min_size=1, max_size=14))
@settings(max_examples=20, deadline=None)
def test_every_row_is_held_out_exactly_once(by: By, rows: list[tuple[Any, ...]]) -> None:
    found = made(rows)
    held = [int(place) for fold in folds(found, by) for place in fold.test]
    groups = len(set(found.keys[KEYS[by]]))
    assert sorted(held) == (list(range(len(found))) if groups > 1 else [])


def test_nothing_else_is_dropped() -> None:
    found = many()
    for fold in folds(found, "model"):
        dropped = len(found) - len(fold.train) - len(fold.test)
        assert dropped == 0, "all measurements of this table are distinct"
    assert {fold.name for fold in folds(found, "model")} == set(PARAMS_B)


def test_failures_are_not_taken_for_repeats() -> None:
    failed = table(record(model, "x", None) for model in ("alpha", "beta", "gamma"))
    assert [len(fold.train) for fold in folds(failed, "model")] == [2, 2, 2]


def test_a_table_of_one_group_has_no_folds() -> None:
    one = fixed().take(fixed().keys["model"] == "alpha")
    assert list(folds(one, "model")) == []
    assert list(folds(one, "time")) == [], "no dates"


@pytest.mark.parametrize(
    ("name", "base"),
    [("Org/Alpha-7B-Instruct", "alpha-7b"), ("alpha-7b-chat-fp8", "alpha-7b"), ("alpha", "alpha")],
)
def test_model_base_drops_organisation_and_suffixes(name: str, base: str) -> None:
    assert model_base(name) == base


def test_bootstrap_of_equal_values_has_no_width() -> None:
    assert bootstrap(np.full(6, 0.25), np.array([0, 0, 1, 1, 2, 2])) == (0.25, 0.25)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(max_examples=30)
def test_bootstrap_is_repeatable_and_inside_the_values(values: list[float]) -> None:
    data, groups = np.array(values), np.arange(len(values)) // 2
    low, high = bootstrap(data, groups)
    assert (low, high) == bootstrap(data, groups)
    assert data.min() - 1e-9 <= low <= high <= data.max() + 1e-9


def test_bootstrap_resamples_whole_groups() -> None:
    values = np.repeat([0.0, 1.0], 500)
    assert bootstrap(values, np.repeat([0, 1], 500)) == (0.0, 1.0)
    low, high = bootstrap(values, np.arange(1000))
    assert 0.45 < low < 0.5 < high < 0.55


def test_a_fold_has_rows_to_learn_from() -> None:
    dates = ["2025-01-01"] * 9 + ["2026-01-01"]
    found = made([("alpha", "x", float(n + 1), "small", n + 1.0, 100.0, day) for n, day in enumerate(dates)])
    assert all(len(fold.train) for fold in folds(found, "time"))


@pytest.mark.parametrize("most", [2, 3, 5])
def test_many_groups_are_dealt_whole_to_few_folds(most: int) -> None:
    found = many()
    dealt = list(folds(found, "model", most))
    assert len(dealt) == most
    held = [set(found.keys["model_group"][fold.test]) for fold in dealt]
    assert sorted(name for names in held for name in names) == sorted(PARAMS_B)
    for fold, names in zip(dealt, held, strict=True):
        assert not names & set(found.keys["model_group"][fold.train])
        assert len(names) == 1 or f"and {len(names) - 1} more" in fold.name


def test_few_groups_are_left_out_one_by_one() -> None:
    found = many()
    names = [fold.name for fold in folds(found, "model", len(PARAMS_B))]
    assert names == [fold.name for fold in folds(found, "model")]
