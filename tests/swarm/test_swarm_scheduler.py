"""The scheduler of a caller, without a network: rows of nodes that come and go, limits, what is learnt."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("grpc", reason="needs the extra swarm")

from metainf.domain import BadInput
from metainf.swarm.host.flights import JITTER_S, Buckets, Flight
from metainf.swarm.host.limits import Limits, limits_of
from metainf.swarm.host.scheduling import Asking, Circle, Scheduler
from metainf.swarm.net.changing import Change, Obeying
from metainf.swarm.net.completing import ReplicaFailed
from metainf.swarm.plan.replicas import ENDPOINT, Replica, Wanted, best_way
from metainf.swarm.plan.routing import Client
from metainf.swarm.schedule.candidates import ADDS, PATH, of_replica
from metainf.swarm.schedule.roster import Candidate, Own, Roster, Speed
from metainf.swarm.schedule.words import Ask
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.sealed import sealed
from metainf.swarm.trust.signing import Refused
from metainf.swarm.words import (
    Announcement,
    Demand,
    Features,
    Offered,
    Profile,
    Route,
    Span,
    Writing,
)

BLOCKS, MODEL = 4, "b2:" + "0" * 32


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def word(name: str, token_s: float, seq: int = 1, **told: Any) -> Announcement:
    """A replica that writes a token in so many seconds, and reads one in a tenth of that."""
    methods = told.pop("methods", None) or {"plain": (token_s, token_s / 10)}
    offered = tuple(
        Offered(
            method=method,
            decode_ms_per_block=None if speeds is None else 1000 * speeds[0] / BLOCKS,
            prefill_ms_per_token_block=None if speeds is None else 1000 * speeds[1] / BLOCKS,
            prefix_tokens=told.pop("prefix_tokens", 0),
        )
        for method, speeds in methods.items()
    )
    writing = Writing(
        method=told.pop("method", offered[0].method), methods=offered, places=4, texts=told.pop("texts", 0),
        waiting_tokens=told.pop("waiting_tokens", 0),
    )  # fmt: skip
    said = Features(decode_ms_per_block=1000 * token_s / BLOCKS, labels=(ENDPOINT,), writing=writing, **told)
    return Announcement(
        node=name, generation=1, seq=seq, address="127.0.0.1:1", certificate=MODEL, model=MODEL,
        num_blocks=BLOCKS, span=Span(start=0, end=BLOCKS), features=said, issued_s=1.0, valid_until_s=600.0,
        profile=Profile(dtype="float32", codec="text", engine="llama.cpp"),
    )  # fmt: skip


class Played:
    """A scheduler before nodes that take as long as the test says."""

    def __init__(self, *words: Announcement, seed: int = 1) -> None:
        self.clock, self.words = Clock(), list(words)
        self.scheduler = Scheduler(clock=self.clock, rng=np.random.default_rng(seed))
        self.client = Client(rtt_ms={each.node: 1.0 for each in words})
        self.slow = {each.node: 1.0 for each in words}

    def way(self, prompt: int | tuple[int, ...] = 10, **limits: Any) -> tuple[Any, Flight]:
        told = prompt if isinstance(prompt, tuple) else tuple(range(prompt))
        asking = Asking(told, 20, Limits(**limits))
        circle = Circle(self.words, self.client, Wanted())
        present = best_way(self.words, asking.demand, self.client, Wanted())
        return self.scheduler.way(circle, asking, present)

    def ask(self, prompt: int | tuple[int, ...] = 10, fails: bool = False, **limits: Any) -> str:
        """One text from its beginning to its end; who wrote it."""
        way, flight = self.way(prompt, **limits)
        said = next(each for each in self.words if each.node == way.node).features
        token_s = said.decode_ms_per_block * BLOCKS / 1000 * self.slow[way.node]
        try:
            with flight:
                if fails:
                    raise ReplicaFailed(way.node, "it was killed (by a test)")
                unread = prompt if isinstance(prompt, int) else len(prompt)
                self.clock.now_s += unread * token_s / 10
                for number in range(20):
                    self.clock.now_s += token_s
                    flight.wrote(number + 1, number == 19)
        except ReplicaFailed:
            pass
        return str(way.node)


def test_a_node_that_gets_slow_is_left_within_twenty_texts() -> None:
    played = Played(word("quick", 0.02), word("other", 0.05))
    before = [played.ask() for _ in range(40)]
    played.slow["quick"] = 10.0
    later = [played.ask() for _ in range(60)]
    assert before.count("quick") > 30
    assert later.count("quick") <= 20 and later[-20:].count("other") >= 18
    told = {each.node: each for each in played.scheduler.told().nodes}
    assert told["quick"].step_times > 3 and 0.7 < told["other"].step_times < 1.4
    assert told["quick"].chosen == [*before, *later].count("quick")


def test_a_slow_node_is_tried_again_after_a_while() -> None:
    played = Played(word("quick", 0.02), word("other", 0.05))
    played.slow["quick"] = 10.0
    for _ in range(30):
        played.ask()
    assert [played.ask() for _ in range(5)].count("quick") <= 1
    played.slow["quick"] = 1.0
    played.clock.now_s += 3600.0
    assert [played.ask() for _ in range(20)].count("quick") >= 15


def test_what_is_kept_between_texts_is_what_would_be_made_anew() -> None:
    """Announcements, round trips, what is avoided and the length of a text change from text to text; two
    schedulers, of which one forgets what it kept, choose alike."""
    rng = random.Random(5)
    names = [f"n-{at}" for at in range(6)]

    def said(name: str, seq: int) -> Announcement:
        room = rng.choice((64, 4096))
        return word(name, rng.uniform(0.01, 0.1), seq, texts=rng.randrange(4), cache_tokens_left=room)

    keeps, makes = (Played(*(word(name, 0.05) for name in names)) for _ in range(2))
    for number in range(120):
        if rng.random() < 0.4:
            at = rng.randrange(6)
            keeps.words[at] = makes.words[at] = said(names[at], number + 2)
        if rng.random() < 0.2:
            rtt_ms = {name: rng.uniform(1, 900) for name in names}
            avoid = frozenset(rng.sample(names, rng.randrange(3)))
            keeps.client, makes.client = (Client(rtt_ms=dict(rtt_ms), avoid=avoid) for _ in range(2))
        makes.scheduler._mark = None
        prompt = rng.choice((10, 200))
        chosen = [played.ask(prompt) for played in (keeps, makes)]
        assert chosen[0] == chosen[1], number
    assert keeps.scheduler.told() == makes.scheduler.told()


def test_limits_and_budgets_bind() -> None:
    dear, cheap = word("dear", 0.01, usd_per_hour=36.0), word("cheap", 0.1, usd_per_hour=0.36)
    assert Played(dear, cheap).ask(tpot_s=0.03) == "dear"
    assert Played(dear, cheap).ask(tpot_s=1.0, ttft_s=5.0) == "cheap"
    assert Played(dear, cheap).ask(deadline_s=1.0) == "dear"
    assert Played(dear, cheap).ask(most_usd=0.001) == "cheap"
    with pytest.raises(BadInput, match="the cheapest costs"):
        Played(dear, cheap).ask(most_usd=1e-9)


def test_without_limits_and_prices_the_quickest_writes_and_what_is_too_much_goes_elsewhere() -> None:
    played = Played(word("quick", 0.02), word("other", 0.03))
    assert [played.ask() for _ in range(10)].count("quick") >= 9
    flights, chosen = [], []
    for _ in range(8):
        way, flight = played.way()
        flights.append(flight.__enter__())
        chosen.append(way.node)
    assert chosen.count("other") >= 2 and chosen.count("quick") >= 3
    for flight in flights:
        flight.__exit__(None)
    assert all(own.texts == own.waiting_tokens == 0 for own in played.scheduler.roster.own.values())


def test_who_fails_is_left_and_what_it_had_is_free_again() -> None:
    played = Played(word("quick", 0.02), word("other", 0.03))
    names = [played.ask(fails=played.way()[0].node == "quick") for _ in range(20)]
    assert names[-5:] == ["other"] * 5
    assert played.scheduler.told().nodes[1].failed >= 2


def test_the_same_beginning_goes_where_it_was_read() -> None:
    """Of equal nodes the first is taken; a beginning that the second has read goes there again."""
    played = Played(word("first", 0.02, prefix_tokens=4096), word("second", 0.02, prefix_tokens=4096))
    shared, fresh = tuple(range(2000, 2256)), tuple(range(256))
    played.words = [played.words[1]]
    assert played.ask(shared) == "second"
    played.words = [word("first", 0.015, prefix_tokens=4096), *played.words]
    played.slow["first"] = 1.0
    told = [played.ask((*shared, 7000 + number)) for number in range(10)]
    assert told.count("second") >= 9
    others = [played.ask((number, *fresh)) for number in range(10)]
    assert others.count("first") >= 6


def test_load_of_others_counts_and_ones_own_is_not_counted_twice() -> None:
    busy = word("busy", 0.02, texts=4, waiting_tokens=4000)
    assert Played(busy, word("idle", 0.025)).ask() == "idle"
    played = Played(word("mine", 0.02), word("idle", 0.05))
    flight = played.way()[1].__enter__()
    played.words[0] = word("mine", 0.02, seq=2, texts=1, waiting_tokens=10)
    played.way()
    assert played.scheduler.roster.known["mine"].texts == 0
    flight.__exit__(None)


def test_a_fault_of_the_scheduler_leaves_the_present_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(word("quick", 0.02), word("other", 0.05))

    def broken(*_: object) -> None:
        raise ZeroDivisionError("made by a test")

    monkeypatch.setattr(played.scheduler.policy, "decide", broken)
    assert [played.ask() for _ in range(3)] == ["quick"] * 3
    counts = played.scheduler.told().counts
    assert counts["errors"] == counts["fallbacks"] == 3 and "choices" not in counts


def test_where_nothing_is_forecast_the_present_choice_stands() -> None:
    silent = word("silent", 0.05, methods={"plain": None})
    played = Played(silent)
    way, _ = played.way()
    assert way.node == "silent" and played.scheduler.counts["fallbacks"] == 1


def test_the_path_through_blocks_is_one_of_those_that_may_write() -> None:
    def blocks(name: str, span: tuple[int, int], ms: float) -> Announcement:
        said = word(name, 1.0)
        return said.model_copy(
            update={
                "span": Span(start=span[0], end=span[1]),
                "profile": Profile(dtype="float32"),
                "features": Features(decode_ms_per_block=ms, prefill_ms_per_token_block=ms / 10),
            }
        )

    halves = [blocks("one", (0, 2), 1.0), blocks("two", (2, 4), 1.0)]
    assert isinstance(Played(word("slow", 0.5), *halves).way()[0], Route)
    way, flight = Played(word("quick", 0.001), *halves).way()
    assert isinstance(way, Replica) and flight.plan is not None and flight.plan.name == "quick"
    played = Played(word("even", 0.07), *halves)
    for _ in range(8):
        played.way()[1].__enter__()
    assert {PATH, "even"} == set(played.scheduler.chosen)


def test_a_change_of_method_is_wished_where_it_pays() -> None:
    """One method reads quickly, the other writes quickly; short questions with long answers come."""
    methods = {"reads": (0.08, 0.0005), "writes": (0.01, 0.004)}
    played = Played(
        word("node", 0.08, methods=methods), word("rest", 0.08, methods={"reads": (0.08, 0.0005)})
    )
    assert played.scheduler.wish() is None
    for _ in range(120):
        played.ask(4)
    assert played.scheduler.wish() == ("node", "writes")
    played.words, rest = played.words[:1], played.words[1:]
    flight = played.way(4)[1].__enter__()
    assert played.scheduler.wish() is None  # it is not idle
    flight.__exit__(None)
    played.words += rest
    played.scheduler.refused("node")
    played.ask(4)
    assert played.scheduler.wish() is None
    played.clock.now_s += 1e5
    assert played.scheduler.wish() is None  # nobody asks any more


speeds = st.builds(Speed, st.floats(1e-5, 1e-2), st.floats(1e-3, 1.0), st.floats(1e-4, 0.1))
candidates = st.builds(
    Candidate,
    name=st.sampled_from([f"node-{at}" for at in range(30)]),
    method=st.just("a"),
    speeds=st.fixed_dictionaries({"a": speeds}, optional={"b": speeds, "c": speeds}),
    places=st.integers(1, 8),
    usd_per_s=st.floats(0, 1e-3),
    texts=st.integers(0, 5),
)
rounds = st.lists(st.lists(candidates, max_size=14, unique_by=lambda each: each.name), max_size=4)


@settings(max_examples=25, deadline=None)
@given(rounds)
def test_rows_belong_to_the_nodes_that_are_there(told: list[list[Candidate]]) -> None:
    roster = Roster()
    for number, here in enumerate(told):
        roster.take(here, 1000.0 + number)
        assert {roster.name(int(row)) for row in roster.rows()} == {each.name for each in here}
        assert len(set(roster.row.values())) == len(roster.row) == len(roster.known)
        for each in here:
            at = roster.row[each.name]
            assert roster.names[at][int(roster.swarm.method[at])] == each.method
            assert roster.swarm.running[at] == each.texts
            for method, speed in each.speeds.items():
                column = roster.names[at].index(method)
                assert roster.rates.step_s[at, column] == speed.step_s
            known = [name for name in roster.names[at] if name]
            assert np.isfinite(roster.rates.step_s[at]).sum() == len(each.speeds) <= len(known)
        usd = roster.usual_usd(Ask(10, 5.0))
        assert (usd > 0) is any(each.usd_per_s > 0 for each in here) and usd < math.inf


def test_who_takes_the_row_of_another_begins_anew() -> None:
    roster = Roster()
    plain = {"a": Speed(1e-3, 0.01, 0.001)}
    first = [Candidate(f"old-{at}", "a", plain) for at in range(8)]
    roster.take(first, 0.0)
    for _ in range(9):
        roster.saw("old-3", "a", (5.0, 5.0), True)
    again = [Candidate(f"new-{at}", "a", plain) for at in range(8)]
    roster.take(again, 1.0)
    assert len(roster.swarm) == 8 and not set(roster.row) & {each.name for each in first}
    assert (roster.learned.shift(roster.swarm, 1)[0] == 0).all() and (roster.learned.failing == 0).all()
    roster.saw("old-3", "a", (5.0, 5.0), True)  # it has left: nothing is learnt
    assert (roster.learned.failing == 0).all()


def test_what_was_learnt_is_kept_where_rows_are_added() -> None:
    roster, plain = Roster(), {"a": Speed(1e-3, 0.01, 0.001)}
    roster.take([Candidate("slow", "a", plain)], 0.0)
    for _ in range(20):
        roster.saw("slow", "a", (4.0, 4.0), False)
    before = float(roster.learned.shift(roster.swarm, 1)[0][roster.row["slow"]])
    roster.take([Candidate("slow", "a", plain), *(Candidate(f"n-{at}", "a", plain) for at in range(20))], 0.0)
    assert len(roster.swarm) > 20 and before > 1
    assert roster.learned.shift(roster.swarm, 1)[0][roster.row["slow"]] == pytest.approx(before)


def test_a_method_that_was_not_tried_is_as_much_off_its_forecast_as_the_present_one() -> None:
    said = word("node", 0.04, methods={"plain": (0.04, 0.004), "other": None, "unknown": None})
    foretold = {"plain": Speed(1e-3, 0.015, 0.005), "other": Speed(5e-4, 0.008, 0.002, 0.4)}
    found = of_replica(said, Client(), foretold, Own())
    assert set(found.speeds) == {"plain", "other"}
    assert found.speeds["plain"].each_s == pytest.approx(0.01)  # the forecast's share of what was measured
    assert found.speeds["other"].step_s == pytest.approx(0.016) and found.speeds["other"].spread == 0.4
    assert set(of_replica(said, Client(), foretold, Own(), changes=False).speeds) == {"plain"}
    plain = of_replica(word("node", 0.04), Client(), {}, Own())
    assert plain.speeds["plain"].each_s == pytest.approx(0.04 * ADDS)


def test_limits_are_read_and_unknown_ones_refused() -> None:
    assert limits_of(None) == Limits()
    told = limits_of({"max_ttft_s": 1, "tpot_s": 0.1, "max_usd": 2.0, "deadline_s": 9, "trust": ["tee"]})
    assert told == Limits(ttft_s=1.0, tpot_s=0.1, most_usd=2.0, deadline_s=9.0, trust=("tee",))
    for wrong in (
        {"ttft": 1},
        {"ttft_s": 0},
        {"ttft_s": "soon"},
        {"trust": "tee"},
        [],
        "x",
        {"most_usd": -1},
    ):
        with pytest.raises(BadInput):
            limits_of(wrong)
    here = word("ed-here", 0.1, region="fra")
    assert Limits(trust=("region:fra",)).admits(here) and not Limits(trust=("region:iad",)).admits(here)
    assert Limits(trust=("ed-here",)).admits(here) and Limits().admits(here)


@given(st.lists(st.floats(0, 100), max_size=40))
def test_decisions_are_counted_by_their_time(times: list[float]) -> None:
    buckets = Buckets()
    for each in times:
        buckets.add(each)
    told = buckets.told()
    assert sum(told.counts) == len(times) and told.sum_ms == pytest.approx(sum(times))
    for at, edge in enumerate(told.edges_ms):
        assert sum(told.counts[: at + 1]) == sum(each <= edge for each in times)


def test_a_wish_is_obeyed_from_those_that_the_operator_lists_once_and_while_it_is_fresh() -> None:
    me, stranger = Identity(b"1" * 32), Identity(b"2" * 32)
    obeying = Obeying("ed-node", (me.node,), ("plain", "other"))

    def wish(who: Identity, node: str = "ed-node", method: str = "other", issued_s: float = 1000.0) -> str:
        return sealed(who, Change(node=node, method=method, issued_s=issued_s))

    assert obeying.heard(wish(me), 1001.0) == "other"
    for text, why in [
        (wish(me), "heard before"),
        (wish(stranger), "its operator lists"),
        (wish(me, node="ed-else"), "a wish for ed-node"),
        (wish(me, method="third"), "expected one of plain, other"),
        (wish(me, issued_s=900.0), "set the clocks"),
        (wish(me, issued_s=1100.0), "set the clocks"),
        ("{}", "not a valid Seal"),
        (wish(me)[:-9], "not a valid Seal"),
    ]:
        with pytest.raises(Refused, match=why):
            obeying.heard(text, 1001.0)
    assert obeying.heard(wish(me, issued_s=1002.0), 1003.0) == "other"


def test_what_a_flight_teaches() -> None:
    played = Played(word("node", 0.1))
    _, flight = played.way(10)
    with flight:
        played.clock.now_s += 1.0
        flight.wrote(1)
        played.clock.now_s += 0.4
        flight.wrote(5)
    first, step = flight.ratios(1.0)
    assert first == pytest.approx((1.0 - 0.002 + JITTER_S) / (0.1 + 0.1 + JITTER_S), rel=0.02)
    assert step == pytest.approx(1.0)
    short = played.way(10)[1]
    with short:
        short.wrote(1)
    assert short.ratios(1.0)[1] is None and Flight().ratios(1.0) == (None, None)


def test_demand_is_what_is_left_of_a_text() -> None:
    assert Asking((1, 2, 3), 7).demand == Demand(prompt_tokens=3, new_tokens=7)
