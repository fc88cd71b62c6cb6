"""When a node counts as hung or slow, and how long it is left alone."""

import pytest

from metainf.swarm.net.pacing import ASK_EVERY, BAN_S, LAGGING_STEPS, MEASURED, Bans, Pace, worth

TERMS = (2.0, 0.2, 0.25)


def after(pace: Pace, tokens: int, seconds: float, times: int) -> Pace:
    for _ in range(times):
        pace.took(tokens, seconds)
    return pace


def test_a_pace_that_is_not_known_gets_the_agreed_time() -> None:
    assert Pace().deadline_s(1, *TERMS) == 2.0
    assert Pace().deadline_s(11, *TERMS) == pytest.approx(2.0 + 10 * 0.2)
    assert after(Pace(), 1, 0.01, MEASURED - 1).deadline_s(1, *TERMS) == 2.0


@pytest.mark.parametrize(("usual_s", "limit_s"), [(0.01, 0.25), (0.1, 0.4), (0.3, 1.2), (0.9, 2.0)])
def test_a_known_pace_gets_four_times_the_usual(usual_s: float, limit_s: float) -> None:
    assert after(Pace(), 1, usual_s, MEASURED).deadline_s(1, *TERMS) == pytest.approx(limit_s)


def test_a_prompt_gets_time_for_each_token() -> None:
    assert after(Pace(), 64, 0.64, 1).deadline_s(256, *TERMS) == pytest.approx(4 * 2.56)
    assert Pace(promised_token_s=0.001).deadline_s(101, *TERMS) == pytest.approx(3.0)
    decoding = after(Pace(), 1, 0.01, 5)
    assert decoding.deadline_s(101, *TERMS) == pytest.approx(22.0), "one token tells nothing of a prompt"


def test_who_was_judged_wrongly_gets_more_time() -> None:
    bans = Bans()
    assert Pace(patience=bans.patience("a")).deadline_s(1, *TERMS) == 2.0
    bans.ban("a", 0.0)
    assert Pace(patience=bans.patience("a")).deadline_s(1, *TERMS) == 4.0


def test_bans_end_and_grow() -> None:
    bans = Bans()
    bans.ban("a", 100.0)
    assert bans.now(100.0 + BAN_S - 0.1) == {"a"} and bans.now(100.0 + BAN_S) == frozenset()
    bans.ban("a", 200.0)
    assert bans.now(200.0 + 2 * BAN_S - 0.1) == {"a"} and bans.now(200.0 + 2 * BAN_S) == frozenset()
    bans.ban("a", 300.0)
    bans.lift()
    assert bans.now(300.0) == frozenset()
    bans.ban("a", 300.0)
    assert bans.now(300.0 + 8 * BAN_S - 0.1) == {"a"}, "what it did is not forgotten"


def test_lagging_is_told_once_in_a_while() -> None:
    pace = after(Pace(promised_s=0.01), 1, 0.1, LAGGING_STEPS - 1)
    assert not pace.lags()
    pace.took(1, 0.1)
    assert pace.lags() and not pace.lags()
    assert not after(pace, 1, 0.1, ASK_EVERY - 1).lags()
    assert after(pace, 1, 0.1, 1).lags()
    assert not after(Pace(promised_s=0.01), 1, 0.02, 50).lags()
    assert not after(after(Pace(promised_s=0.01), 1, 0.1, 20), 1, 0.01, 1).lags(), "one good step ends it"


def test_moving_must_pay_twice_its_cost() -> None:
    assert worth(0.1, 0.02, 50, 1.9) and not worth(0.1, 0.02, 50, 2.1) and not worth(0.1, 0.2, 50, 0.0)
