"""Moments and content features: right where known, NaN where not, and they tell texts apart."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import Lengths, Workload
from metainf.embed import moments as m
from metainf.testing.embedding_suite import EmbeddingSuite

PROSE = (
    "The harbour was quiet that morning. A fisherman mended his nets while two gulls argued over a crust of "
    "bread, and nobody on the quay seemed to mind (the rain had only just stopped). By noon, however, "
    "the market filled with voices, baskets of plums, and the smell of fresh bread from the corner bakery."
)
CODE = """import os
from pathlib import Path

def total(values):
    result = 0
    for value in values:
        result += value
    return result

class Box(object):
    size = 3
    print(size)
"""
C_CODE = '#include <stdio.h>\nint main() {\n  int x = 3;\n  // say it\n  printf("%d", x);\n  return 0;\n}\n'
EDIT = f"Rewrite this text with care. {PROSE} Here is the text again with a correction. {PROSE}"
FULL = Workload(
    input_tokens=Lengths(
        mean=1000, std=500.0, skewness=1.5, kurtosis=4.0, p50=800, p90=1600, p99=2400, max=4000
    ),
    output_tokens=Lengths(mean=99, std=0.0),
    prefix_share=0.25,
    interarrival_cv=2.0,
    content=(PROSE, EDIT),
)


class TestMoments(EmbeddingSuite):
    def embed(self, things):
        return m.embed(things)

    def columns(self):
        return m.columns()

    def nan_columns(self):
        return frozenset(m.columns())

    def inputs(self):
        return [FULL, Workload(), Workload(input_tokens=Lengths(mean=5)), Workload(content=("1 + 1 =",))]


def test_lengths():
    row = m.moments(FULL)
    assert row["input.log_mean"] == pytest.approx(math.log(1001))
    assert row["input.cv"] == 0.5 and row["output.cv"] == 0
    assert (row["input.skewness"], row["input.kurtosis"]) == (1.5, 4.0)
    assert (row["input.p90_over_p50"], row["input.p99_over_p50"], row["input.max_over_mean"]) == (2, 3, 4)
    assert row["log_input_over_output"] == pytest.approx(math.log(1001 / 100))
    assert (row["prefix_share"], row["interarrival_cv"]) == (0.25, 2.0)
    assert math.isnan(row["output.skewness"])


def test_nothing_known_is_nan_everywhere():
    assert all(math.isnan(value) for value in m.moments(Workload()).values())


def test_a_mean_of_zero_has_no_ratio():
    row = m.moments(Workload(output_tokens=Lengths(mean=0, std=0.0, p50=0, p90=3)))
    assert row["output.log_mean"] == 0
    assert math.isnan(row["output.cv"]) and math.isnan(row["output.p90_over_p50"])


@given(
    st.builds(
        Workload,
        input_tokens=st.none()
        | st.builds(Lengths, mean=st.floats(0, 1e6), p50=st.none() | st.floats(1, 1e6)),
        prefix_share=st.none() | st.floats(0, 1),
        content=st.none() | st.lists(st.text(max_size=80), max_size=4).map(tuple),
    )
)
def test_any_workload_gives_all_columns_and_shares_stay_within_0_and_1(workload):
    row = m.moments(workload)
    assert tuple(row) == m.columns()
    assert not any(math.isinf(value) for value in row.values())
    for name in ("copied", "repeated", "code", "digits", "non_ascii", "shared_start"):
        assert math.isnan(row[f"content.{name}"]) or 0 <= row[f"content.{name}"] <= 1


def test_copying_tells_an_edit_from_fresh_prose():
    assert m.copied_share(PROSE) < 0.05 and m.repeated_share(PROSE) < 0.05
    assert m.copied_share(EDIT) > 0.8 and m.repeated_share(EDIT) > 0.4
    assert m.compression_ratio(EDIT) < 0.7 * m.compression_ratio(PROSE)
    assert math.isnan(m.copied_share("too short to say"))


def test_ideographs_count_as_words():
    assert m.copied_share("東京の天気は今日とても良いです。" * 2) > 0.7


@pytest.mark.parametrize("code", [CODE, C_CODE])
def test_code_is_told_from_prose(code):
    assert m.code_share(code) > 0.8
    assert m.code_share(PROSE) == m.code_share(PROSE.replace(". ", ".\n").replace(", ", ",\n")) == 0
    assert m.code_share("") == 0


def test_digits_and_non_ascii():
    row = m.content_features(["12345 =", "東京 ab"])
    assert row["digits"] == pytest.approx((5 / 7 + 0) / 2)
    assert row["non_ascii"] == pytest.approx((0 + 2 / 5) / 2)


def test_shared_start():
    system = "You are a helpful assistant who answers briefly. "
    assert m.shared_start([system + "What is the time?", system + "Who wrote this?"]) > 0.6
    assert m.shared_start(["alpha beta", "gamma delta"]) == 0
    assert m.shared_start(["same words", "same words"]) == 1
    assert math.isnan(m.shared_start(["alone"]))


def test_blank_texts_do_not_count():
    assert m.content_features([PROSE, " \n"]) == pytest.approx(m.content_features([PROSE]), nan_ok=True)


@pytest.mark.parametrize(
    "hostile",
    [
        "<" + "a" * 50_000,
        "import a as " + " " * 50_000 + "!",
        "a" * 50_000,
        "if " + "( " * 25_000,
        "; " * 25_000,
    ],
)
def test_hostile_texts_are_read_in_linear_time(hostile):
    """A guard, not a timing: what is quadratic in fifty thousand characters needs minutes."""
    start = time.process_time()
    m.content_features([hostile])
    assert time.process_time() - start < 20
