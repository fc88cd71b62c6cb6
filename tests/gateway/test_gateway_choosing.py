"""The chooser is a function of what it is given: properties of every ranking, and what single cases show."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import Model
from metainf.gateway.choosing import ALIKE, closed, outlook, rank
from metainf.gateway.learning import FAILURES, HALF_LIFE_S, begun, corrected, ended, probed, works
from metainf.gateway.words import (
    AIMS,
    UNKNOWN,
    Contender,
    Endpoint,
    Expected,
    Option,
    Seen,
    Size,
    Spread,
    Standing,
    Wanted,
)

MODEL = Model(name="m")
SIZE = Size(500, 100)
FRESH = Standing()
positive = st.floats(1e-3, 1e3)
maybe = st.none() | positive


def contender(
    name: str,
    ttft_s: float,
    tpot_s: float,
    usd_per_hour: float | None = None,
    standing: Standing = FRESH,
) -> Contender:
    """One endpoint, forecast to be so fast, with 10 % of doubt."""
    endpoint = Endpoint(name, f"http://{name}", MODEL, "m", ("m",), usd_per_hour=usd_per_hour)
    said = Expected(Spread(math.log(ttft_s), 0.1), Spread(math.log(tpot_s), 0.1), 1 / tpot_s)
    return Contender(endpoint, standing, said)


standings = st.builds(
    Standing,
    in_flight=st.integers(0, 50),
    good=st.floats(0, 100),
    bad=st.floats(0, 100),
    broken=st.integers(0, 6),
    closed_until_s=st.floats(0, 200),
    trying=st.booleans(),
    up=st.booleans(),
)
fields = st.lists(
    st.builds(
        lambda ttft, tpot, usd, standing: ("", ttft, tpot, usd, standing),
        positive,
        positive,
        maybe,
        standings,
    ),
    min_size=1,
    max_size=6,
).map(lambda rows: [contender(f"e{i}", *row[1:]) for i, row in enumerate(rows)])
wishes = st.builds(
    Wanted,
    max_ttft_s=maybe,
    max_tpot_s=maybe,
    max_e2e_s=maybe,
    max_usd=st.none() | st.floats(1e-7, 10),
    aim=st.none() | st.sampled_from(AIMS),
    strict=st.booleans(),
)


def drawn(values: list[float]) -> Callable[[], float]:
    """Chance that gives these numbers over and over."""
    place = -1

    def chance() -> float:
        nonlocal place
        place += 1
        return values[place % len(values)]

    return chance


chances = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8)


@given(fields, wishes, chances, st.floats(0, 1))
def test_every_ranking_keeps_its_promises(
    field: list[Contender], wanted: Wanted, numbers: list[float], explore: float
) -> None:
    now_s = 100.0
    found = rank(field, SIZE, wanted, now_s, drawn(numbers), explore)
    names = [option.name for option in found.options]
    assert sorted([*names, *found.left_out]) == sorted(each.endpoint.name for each in field)
    by_name = {each.endpoint.name: each for each in field}
    for option in found.options:
        assert closed(by_name[option.name].standing, now_s) is None
        assert 0 <= option.p_meets <= 1
        if wanted.max_usd is not None:
            assert option.usd is not None and option.usd <= wanted.max_usd
        if wanted.strict and wanted.timed:
            assert option.p_meets >= wanted.confidence
    meets = [option.p_meets >= wanted.confidence for option in found.options]
    assert meets == sorted(meets, reverse=True), "one that misses stands before one that meets"
    assert found == rank(field, SIZE, wanted, now_s, drawn(numbers), explore), "the same in, the same out"


@given(fields, wishes, chances)
def test_nobody_clearly_worse_comes_before(
    field: list[Contender], wanted: Wanted, numbers: list[float]
) -> None:
    """By more than what chance may turn round."""
    found = rank(field, SIZE, wanted, 100.0, drawn(numbers))
    good = [option for option in found.options if option.p_meets >= wanted.confidence]
    aim = wanted.aim or ("cost" if wanted.timed else "latency")
    key: dict[str, Callable[[Option], float]] = {
        "cost": lambda option: math.inf if option.usd is None else option.usd,
        "latency": lambda option: option.e2e_s,
        "ttft": lambda option: option.ttft_s,
        "tpot": lambda option: option.tpot_s,
    }
    for before, after in pairwise(good):
        if not (math.isinf(key[aim](before)) and math.isinf(key[aim](after))):
            assert key[aim](before) <= key[aim](after) * (1 + ALIKE) * (1 + 1e-9)


@given(positive, positive, st.lists(st.floats(0.01, 100), min_size=1, max_size=50))
def test_more_was_seen_the_less_the_forecast_counts(said_s: float, scale: float, seen: list[float]) -> None:
    """What is expected lies between the forecast and the mean of what was seen, and closer with each."""
    expected = Expected(Spread(math.log(said_s), min(scale, 2.0)), Spread(0.0, 1.0))
    standing, now_s = Standing(), 0.0
    for value in seen:
        now_s += 0.01
        standing = ended(begun(standing, now_s), Seen("ok", expected, ttft_s=value), now_s)
    found = corrected(expected.ttft, standing.ttft, now_s)
    mean = sum(math.log(value) for value in seen) / len(seen)
    low, high = sorted((math.log(said_s), mean))
    assert low - 0.01 <= found.log_median <= high + 0.01
    assert found.log_scale > 0


def test_without_limits_the_fastest_and_within_them_the_cheapest() -> None:
    field = [contender("slow", 0.4, 0.02, 1.0), contender("quick", 0.1, 0.005, 20.0)]
    first = [rank(field, SIZE, wanted, 0, lambda: 0.5).options[0].name for wanted in (
        Wanted(), Wanted(max_ttft_s=1.0), Wanted(max_ttft_s=0.2), Wanted(max_ttft_s=1.0, aim="ttft"),
    )]  # fmt: skip
    assert first == ["quick", "slow", "quick", "quick"]


def test_a_limit_nobody_meets_asks_the_likeliest_unless_it_is_strict() -> None:
    field = [contender("a", 0.4, 0.02), contender("b", 0.2, 0.02)]
    assert [o.name for o in rank(field, SIZE, Wanted(max_ttft_s=0.1), 0, lambda: 0.0).options] == ["b", "a"]
    found = rank(field, SIZE, Wanted(max_ttft_s=0.1, strict=True), 0, lambda: 0.0)
    assert not found.options and set(found.left_out) == {"a", "b"}


def test_money_is_a_limit_that_is_never_passed() -> None:
    field = [contender("dear", 0.1, 0.01, 3600.0), contender("free", 0.1, 0.01)]
    found = rank(field, SIZE, Wanted(max_usd=0.5), 0, lambda: 0.0)
    assert not found.options
    assert found.left_out == {"dear": "costs about 1 $, beyond 0.5 $", "free": "its price is not known"}


def test_what_is_alike_takes_turns_and_what_is_not_does_not() -> None:
    import random

    rng = random.Random(1)
    alike = [contender("a", 0.1, 0.01), contender("b", 0.1, 0.01), contender("c", 0.2, 0.02)]
    first = [rank(alike, SIZE, Wanted(), 0, rng.random).options[0].name for _ in range(400)]
    assert 120 < first.count("a") < 280 and first.count("c") == 0
    explored = [rank(alike, SIZE, Wanted(), 0, rng.random, 0.1).options[0].name for _ in range(1000)]
    assert 20 < explored.count("c") < 120


def test_failures_close_an_endpoint_and_an_answer_opens_it() -> None:
    standing, now_s = Standing(), 10.0
    for _ in range(FAILURES - 1):
        standing = ended(begun(standing, now_s), Seen("failed"), now_s)
    assert closed(standing, now_s) is None
    standing = ended(begun(standing, now_s), Seen("failed"), now_s)
    assert closed(standing, now_s) == "left alone for 1.0 s more"
    trying = begun(standing, now_s + 1.1)
    assert closed(trying, now_s + 1.1) == "a request is trying it out", "one at a time"
    again = ended(trying, Seen("failed"), now_s + 1.2)
    assert closed(again, now_s + 2.5) == "left alone for 0.7 s more", "twice as long"
    good = ended(begun(again, now_s + 4), Seen("ok"), now_s + 4)
    assert closed(good, now_s + 4) is None and good.broken == 0 and good.in_flight == 0


def test_one_that_is_busy_is_left_alone_without_blame() -> None:
    standing = ended(begun(Standing(), 0), Seen("busy", wait_s=7), 0)
    assert closed(standing, 6.9) is not None and closed(standing, 7.1) is None
    assert works(standing, 0) == works(Standing(), 0)


def test_an_abandoned_request_says_nothing_against_it() -> None:
    standing = ended(begun(Standing(broken=1), 0), Seen("left"), 0)
    assert (standing.broken, standing.bad, standing.in_flight) == (1, 0, 0)


def test_one_that_comes_back_may_be_tried_at_once() -> None:
    standing = Standing(broken=5, closed_until_s=60.0, cooling_s=32.0)
    down = probed(standing, False, 1.0)
    assert closed(down, 100.0) == "its probe fails"
    assert closed(probed(down, True, 2.0), 2.0) is None


def test_a_bad_hour_is_forgotten() -> None:
    expected = Expected(Spread(math.log(0.1), 0.3), Spread(math.log(0.01), 0.3))
    standing = Standing()
    for _ in range(20):
        standing = ended(begun(standing, 0), Seen("ok", expected, ttft_s=2.0, tpot_s=0.01), 0)
    slow = corrected(expected.ttft, standing.ttft, 0)
    later = corrected(expected.ttft, standing.ttft, 15 * HALF_LIFE_S)
    assert slow.log_median == pytest.approx(math.log(2.0), abs=0.3)
    assert later.log_median == pytest.approx(math.log(0.1), abs=0.1)


def test_a_stall_is_a_slow_first_token_too() -> None:
    """So that what was expected too much of is waited for the longer."""
    expected = Expected(Spread(math.log(0.05), 0.3), Spread(math.log(0.01), 0.3))
    one = contender("a", 0.05, 0.01)
    waits = []
    standing = Standing()
    for _ in range(3):
        waits.append(outlook(replace(one, standing=standing), SIZE, Wanted(), 0).slow_ttft_s)
        standing = ended(begun(standing, 0), Seen("failed", expected, ttft_s=3.0), 0)
    assert waits == sorted(waits) and waits[-1] > 3 * waits[0]


def test_an_answer_in_one_piece_teaches_too() -> None:
    standing = Standing()
    for _ in range(10):
        seen = Seen("ok", UNKNOWN, e2e_s=0.06, output_tokens=8)
        standing = ended(begun(standing, 0), seen, 0)
    one = replace(contender("a", 1, 1), standing=standing, expected=UNKNOWN)
    assert outlook(one, Size(10, 8), Wanted(), 0).e2e_s == pytest.approx(0.06, rel=0.5)
