"""Metrics follow their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput, Metrics
from metainf.measure.timing import duration_of, errors_of, metrics_of
from metainf.measure.words import Limits, Timing

gap = st.floats(0.001, 10)


@st.composite
def answers(draw: st.DrawFn) -> Timing:
    sent = draw(st.floats(0, 100))
    chunks = sent + np.cumsum(draw(st.lists(gap, min_size=1, max_size=8)))
    tokens = len(chunks) + draw(st.integers(0, 3))
    return Timing(sent, float(chunks[-1]), tuple(map(float, chunks)), draw(st.integers(1, 50)), tokens)


def test_one_run_by_hand() -> None:
    one = Timing(0.0, 3.0, (1.0, 2.0, 3.0), input_tokens=10, output_tokens=3)
    two = Timing(1.0, 9.0, (5.0, 9.0), input_tokens=30, output_tokens=5, cached_tokens=20)
    lost = Timing(2.0, 10.0, (3.0,), error="the connection broke")
    found = metrics_of([one, two, lost])
    assert found.requests_per_s == pytest.approx(0.2) and found.output_tokens_per_s == pytest.approx(0.8)
    assert found.total_tokens_per_s == pytest.approx(4.8)
    assert (found.ttft_s, found.ttft_p50_s, found.e2e_s) == (2.5, 2.5, 5.5)
    assert found.tpot_s == pytest.approx((1.0 + 1.0) / 2) and found.tpot_p99_s == pytest.approx(1.0)
    assert found.itl_s == pytest.approx(2.0) and found.itl_p50_s == 1.0
    assert found.goodput_per_s is None and found.prefill_tokens_per_s is None
    assert found.prefix_hit_share is None, "one answer does not say what was cached"
    assert errors_of([one, two, lost, lost]) == {"the connection broke": 2}


@given(st.lists(answers(), min_size=1, max_size=30))
def test_metrics_follow_numpy(timings: list[Timing]) -> None:
    found = metrics_of(timings)
    firsts = [timing.chunk_s[0] - timing.sent_s for timing in timings]
    e2es = [timing.chunk_s[-1] - timing.sent_s for timing in timings]
    tpots = [
        (timing.ended_s - timing.chunk_s[0]) / (timing.output_tokens - 1)
        for timing in timings
        if timing.output_tokens and timing.output_tokens > 1
    ]
    for name, values in (("ttft", firsts), ("e2e", e2es), ("tpot", tpots)):
        if not values or not sum(values):
            continue
        assert getattr(found, f"{name}_s") == pytest.approx(np.mean(values))
        for p in (50, 90, 99):
            told = getattr(found, f"{name}_p{p}_s")
            assert (told or 0.0) == pytest.approx(np.percentile(values, p))
    span = max(timing.ended_s for timing in timings) - min(timing.sent_s for timing in timings)
    assert duration_of(timings) == span
    assert found.requests_per_s == pytest.approx(len(timings) / span)
    halved = metrics_of(timings, duration_s=2 * span)
    assert halved.output_tokens_per_s == pytest.approx((found.output_tokens_per_s or math.nan) / 2)


@given(st.lists(answers(), min_size=1, max_size=20), gap, gap, gap)
def test_goodput_counts_what_meets_all(timings: list[Timing], ttft: float, tpot: float, e2e: float) -> None:
    found = metrics_of(timings, Limits(ttft, tpot, e2e))
    good = 0
    for timing in timings:
        later, tokens = timing.chunk_s[-1] - timing.chunk_s[0], timing.output_tokens or 0
        met = timing.chunk_s[0] - timing.sent_s <= ttft and timing.chunk_s[-1] - timing.sent_s <= e2e
        good += met and (tokens < 2 or later / (tokens - 1) <= tpot)
    assert found.goodput_per_s == pytest.approx(good / duration_of(timings))
    assert metrics_of(timings, Limits(e2e_s=1e9)).goodput_per_s == found.requests_per_s


def test_unknown_counts_stay_unknown() -> None:
    known = Timing(0.0, 2.0, (1.0, 2.0), 5, 2, cached_tokens=5)
    silent = Timing(0.0, 2.0, (1.0, 2.0))
    found = metrics_of([known, silent], Limits(tpot_s=5.0))
    assert found.output_tokens_per_s is None and found.total_tokens_per_s is None
    assert found.requests_per_s == 1.0 and found.tpot_s == 1.0
    assert found.goodput_per_s == 0.5, (
        "an answer whose tokens nobody counted cannot be said to meet the limit"
    )
    assert metrics_of([known]).prefix_hit_share == 1.0


def test_nothing_succeeded() -> None:
    assert metrics_of([]) == Metrics()
    assert metrics_of([Timing(0.0, 1.0, error="no")]) == Metrics()
    assert duration_of([]) == 0.0


def test_pieces_of_one_read_have_no_gap() -> None:
    found = metrics_of([Timing(0.0, 2.0, (2.0, 2.0, 2.0), 1, 3)])
    assert found.itl_s is None and found.tpot_s is None and found.ttft_s == 2.0


@pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan, math.inf])
def test_no_duration_is_bad_input(duration_s: float) -> None:
    with pytest.raises(BadInput, match="duration"):
        metrics_of([Timing(0.0, 1.0, (1.0,), 1, 1)], duration_s=duration_s)
