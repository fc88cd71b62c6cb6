"""Cells of foreign files become checked numbers or a reason that names them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.importers.fields import at, flat_spread, lengths, number, rate, some_metrics, spread, whole


@given(st.floats(min_value=1e-9, max_value=1e12), st.sampled_from([1.0, 1e-3, 1e-9]))
def test_a_number_and_its_text_give_the_same(value: float, scale: float) -> None:
    expected = value * scale or None
    assert number({"x": value}, "x", scale) == expected == number({"x": repr(value)}, "x", scale)


@given(st.one_of(st.floats(max_value=-1e-9), st.just(math.nan), st.just(math.inf), st.booleans()))
def test_what_is_no_measurement_names_its_field(value: float) -> None:
    with pytest.raises(BadInput, match=r"a\.b"):
        number({"a": {"b": value}}, "a.b")


@pytest.mark.parametrize("value", [None, "", 0, 0.0, "0"])
def test_nothing_and_zero_are_not_measured(value: object) -> None:
    assert number({"x": value}, "x") is None


def test_paths_through_other_things_find_nothing() -> None:
    assert at({"a": [1]}, "a.b") is None and at(None, "a") is None


def test_rates() -> None:
    assert rate({"r": "inf"}, "r") is None and rate({"r": math.inf}, "r") is None
    assert rate({"r": 5e14}, "r") is None and rate({"r": "2.5"}, "r") == 2.5


def test_spreads_and_lengths() -> None:
    stats = {"median": 10.0, "mean": 12.0, "std_dev": 1.0, "percentiles": {"p90": 20.0, "p99": 30.0}}
    expected = {"ttft_s": 0.012, "ttft_p50_s": 0.01, "ttft_p90_s": 0.02, "ttft_p99_s": 0.03}
    assert spread("ttft", {"t": stats}, "t", 1e-3) == pytest.approx(expected)
    flat = {"mean_ttft_ms": 12.0, "median_ttft_ms": 10.0, "p90_ttft_ms": 20.0, "p99_ttft_ms": 30.0}
    assert flat_spread("ttft", flat, "{}_ttft_ms", 1e-3) == pytest.approx(expected)
    found = lengths(stats)
    assert found is not None and (found.mean, found.std, found.p99) == (12, 1, 30)
    assert lengths({"p50": 3}) is None and lengths(None) is None


def test_whole_numbers_and_empty_metrics() -> None:
    assert whole({"n": "4"}, "n") == 4
    with pytest.raises(BadInput, match="whole"):
        whole({"n": 1.5}, "n")
    with pytest.raises(BadInput, match="no measured number"):
        some_metrics({"ttft_s": None})
