"""Placement by routes as real nodes do it: what they see of one another, and that moving comes to rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.swarm.plan.joining import Subject, first, headings, picture
from metainf.swarm.plan.placement import strengths
from metainf.swarm.plan.rebalancing import ENOUGH, STAY_S, WORTH, decide_by_routes
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.sight import (
    JUDGED,
    MOVING_S,
    Sight,
    UnderWay,
    Ways,
    drawn,
    filled,
    first_by_routes,
    followed,
    overdue,
)
from metainf.swarm.plan.siting import CLIENTS, KNOWN, TYPICAL
from metainf.swarm.plan.table import UNKNOWN_RTT_MS, Floats, missing, table
from metainf.swarm.words import (
    LEAST_BLOCK_MS,
    MOST_CACHE_TOKENS,
    MOST_MS,
    Announcement,
    Capacity,
    Features,
    Held,
    Offered,
    Ping,
    Profile,
    Span,
)

BLOCKS, MODEL = 6, "b2:" + "0" * 32
SUBJECT = Subject(MODEL, BLOCKS, Profile(dtype="float32"))


@dataclass
class Node:
    """What a node of a test is; `at` are its milliseconds from the middle of nowhere."""

    name: str
    decode_ms: float
    memory_blocks: int
    at: tuple[float, float]
    span: Span | None = None
    target: Span | None = None

    @property
    def capacity(self) -> Capacity:
        return Capacity(node=self.name, blocks_per_s=1000 / self.decode_ms, memory_blocks=self.memory_blocks)

    @property
    def held(self) -> Held:
        assert self.span is not None
        return Held(capacity=self.capacity, span=self.span)

    def to_ms(self, other: "Node") -> float:
        return float(np.hypot(self.at[0] - other.at[0], self.at[1] - other.at[1])) + 1.0

    def word(self, others: Sequence["Node"], **more: object) -> Announcement:
        pings = tuple(Ping(node=each.name, rtt_ms=self.to_ms(each)) for each in others if each is not self)
        told = {
            "node": self.name, "generation": 1, "seq": 1, "address": "127.0.0.1:1", "model": MODEL,
            "certificate": "sha256:" + "0" * 64, "num_blocks": BLOCKS, "span": self.span,
            "target": self.target, "profile": Profile(dtype="float32"), "issued_s": 0.0, "valid_until_s": 9.0,
            "features": Features(decode_ms_per_block=self.decode_ms, memory_blocks=self.memory_blocks),
            "pings": pings,
        }  # fmt: skip
        return Announcement.model_validate({**told, **more})


def sight(
    me: Node, words: Sequence[Announcement], there: Sequence[Node], counted: dict[str, Span] | None = None
) -> Sight:
    """What a node sees that has measured all who are there and puts a client beside each."""
    rtt_ms = {each.name: me.to_ms(each) for each in there if each is not me}
    others = picture(words, SUBJECT, me=me.name, counted=counted)
    ways = Ways(0.0, rtt_ms, frozenset(rtt_ms))
    return Sight(BLOCKS, others, {word.node: word for word in words}, ways)


def among(me: Node, nodes: Sequence[Node]) -> Sight:
    return sight(me, [each.word(nodes) for each in nodes if each is not me], nodes)


def routes_ms(nodes: Sequence[Node]) -> float:
    """Milliseconds for a token of the routes that clients beside each node take, by the routing: their
    geometric mean."""
    laid, found = table([each.word(nodes) for each in nodes]), []
    for home in nodes:
        rtt_ms = {each.name: 0.0 if each is home else home.to_ms(each) for each in nodes}
        found.append(best_route(laid, TYPICAL, Client(rtt_ms=rtt_ms)).expected_ms / TYPICAL.passes)
    return float(np.exp(np.log(found).mean()))


@st.composite
def swarms(draw: st.DrawFn) -> list[Node]:
    """Nodes that stand anywhere."""
    made = []
    for index in range(draw(st.integers(2, 6))):
        room = draw(st.integers(1, BLOCKS))
        start = draw(st.integers(0, BLOCKS - room))
        at = draw(st.sampled_from(((0.0, 0.0), (20.0, 0.0), (90.0, 40.0), (60.0, 100.0))))
        ms = draw(st.sampled_from((0.5, 2.0, 7.0, 30.0)))
        place = (at[0] + index, at[1])
        made.append(Node(f"node-{index}", ms, room, place, Span(start=start, end=start + room)))
    return made


@given(swarms())
@settings(max_examples=150, deadline=None)
def test_nodes_that_judge_one_after_another_come_to_rest(nodes: list[Node]) -> None:
    """No move loses a block; each fills more blocks, quickens the routes that clients then take by a clear
    share, or makes the weakest block much stronger without a slower route; and after a while nobody moves."""
    quiet = turn = 0
    while quiet < len(nodes):
        assert turn < 300, "nodes move for ever"
        me, turn = nodes[turn % len(nodes)], turn + 1
        found = decide_by_routes(me.held, among(me, nodes))
        quiet = 0 if found.span else quiet + 1
        if found.span is None:
            continue
        lacked = gaps(nodes)
        before = None if lacked else (routes_ms(nodes), weakest(nodes))
        assert len(found.span) == me.memory_blocks
        me.span = found.span
        if before is None:
            assert gaps(nodes) < lacked
            continue
        assert not gaps(nodes)
        now_ms, now = routes_ms(nodes), weakest(nodes)
        quicker = now_ms <= before[0] * (1 - WORTH + 1e-6) and now >= before[1] * (ENOUGH - 1e-6)
        stronger = now_ms <= before[0] * (1 + 1e-5) and now * ENOUGH >= before[1] * (1 - 1e-6)
        assert quicker or stronger, found.why


def gaps(nodes: Sequence[Node]) -> int:
    return sum(len(each) for each in missing([(n.held.span.start, n.held.span.end) for n in nodes], BLOCKS))


def weakest(nodes: Sequence[Node]) -> float:
    return float(strengths([each.held for each in nodes], BLOCKS).min())


def node(name: str, ms: float, room: int, at: float, start: int | None = None) -> Node:
    return Node(name, ms, room, (at, 0.0), None if start is None else Span(start=start, end=start + room))


def test_a_node_moves_to_where_routes_need_it_once_it_has_stayed() -> None:
    """The second half is slow, and the first has three quick holders."""
    nodes = [node(f"node-{at}", 2.0, 3, at, 0) for at in range(3)] + [node("node-s", 30.0, 3, 3.0, 3)]
    me = nodes[0]
    moving = decide_by_routes(me.held, among(me, nodes))
    assert moving.span == Span(start=3, end=6) and "routes of 4 clients" in moving.why
    assert "stays for" in decide_by_routes(me.held, among(me, nodes), stayed_s=STAY_S - 1).why
    assert decide_by_routes(nodes[3].held, among(nodes[3], nodes)).span is None, "the only holder"
    nodes[1].target = Span(start=3, end=6)
    assert "one moves at a time" in decide_by_routes(me.held, among(me, nodes)).why


def test_nobody_waits_for_ever_for_one_that_says_that_it_moves() -> None:
    """A name that announces a target and never goes there, or other targets in turn, or none now and then."""
    nodes = [node(f"node-{at}", 2.0, 3, at, 0) for at in range(3)]
    nodes += [node("node-l", 2.0, 2, 0.0, 0), node("node-s", 30.0, 3, 3.0, 3)]
    me, liar = nodes[0], nodes[3]
    targets = [Span(start=1, end=3), None, Span(start=1, end=3), Span(start=2, end=4)]
    known: dict[str, UnderWay] = {}
    for at_s in range(int(3 * MOVING_S)):
        liar.target = targets[at_s // 60 % 4]
        known = followed(known, [each.word(nodes) for each in nodes if each is not me], float(at_s))
        assert (at_s <= MOVING_S) <= (not overdue(known))
    assert overdue(known) == {"node-l"} and liar.target is not None
    sees = among(me, nodes)
    assert "one moves at a time" in decide_by_routes(me.held, sees).why
    assert decide_by_routes(me.held, replace(sees, overdue=overdue(known))).span == Span(start=3, end=6)


def test_who_arrives_or_leaves_is_waited_for_anew() -> None:
    mover = node("node-m", 2.0, 3, 0.0, 0)
    mover.target = Span(start=3, end=6)
    late = {"node-m": UnderWay(Span(start=0, end=3), True, 0.0, MOVING_S + 1)}
    assert overdue(followed(late, [mover.word([])], 1.0)) == {"node-m"}
    assert followed(late, [], 1.0) == {}
    mover.span = mover.target
    there = followed(late, [mover.word([])], 1.0)
    assert there == {"node-m": UnderWay(Span(start=3, end=6), False, 1.0)} and not overdue(there)


@pytest.mark.parametrize(("quick_ms", "slow_ms"), [(2.0, 30.0), (1.0, 1.2)])
def test_one_who_announces_long_ways_does_not_drown_the_others(quick_ms: float, slow_ms: float) -> None:
    """A client beside it has one voice, and its ways count as unknown ones at most."""
    nodes = [node(f"node-{at}", quick_ms, 3, at, 0) for at in range(3)]
    nodes += [node("node-s", slow_ms, 3, 3.0, 3), node("node-l", 9.0, 1, 4.0, 0)]
    me, liar = nodes[0], nodes[4]
    words = [each.word(nodes) for each in nodes if each is not me]
    words[-1] = liar.word(
        nodes, pings=tuple(Ping(node=each.name, rtt_ms=MOST_MS) for each in nodes if each is not liar)
    )
    sees = sight(me, words, nodes)
    assert sees.laid(me.capacity)[1].rtt_ms.max() == UNKNOWN_RTT_MS
    honest, told = decide_by_routes(me.held, among(me, nodes)), decide_by_routes(me.held, sees)
    assert honest.span == told.span == Span(start=3, end=6), told.why
    assert "routes of 5 clients" in told.why


def test_numbers_at_the_limits_of_announcements_stop_nobody() -> None:
    nodes = [node("node-a", 2.0, 6, 0.0, 0), node("node-b", 9.0, 3, 1.0, 3), node("node-c", 2.0, 3, 2.0, 0)]
    new, me = node("node-n", 1.0, 3, 1.0), nodes[2]
    worst = Features(
        decode_ms_per_block=MOST_MS,
        prefill_ms_per_token_block=MOST_MS,
        queue_ms=MOST_MS,
        cache_tokens_left=MOST_CACHE_TOKENS,
    )
    best = Features(decode_ms_per_block=LEAST_BLOCK_MS)
    pings = tuple(Ping(node=each.name, rtt_ms=MOST_MS) for each in nodes[1:])
    with np.errstate(all="raise"):
        for said in (worst, best):
            words = [nodes[0].word(nodes, features=said, pings=pings), *(n.word(nodes) for n in nodes[1:])]
            assert len(first_by_routes(new.capacity, sight(new, words, nodes))) == 3
            assert decide_by_routes(me.held, sight(me, [*words[:2]], nodes)).why


@pytest.mark.parametrize(
    "told",
    [
        {"decode_ms_per_block": 1e308},
        {"decode_ms_per_block": 5e-324},
        {"prefill_ms_per_token_block": 1e308},
        {"queue_ms": 1e308},
        {"cache_tokens_left": 10**400},
    ],
    ids=str,
)
def test_numbers_beyond_them_are_no_announcement(told: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Features.of({"decode_ms_per_block": 1.0, **told})
    with pytest.raises(BadInput):
        Ping.of({"node": "node-a", "rtt_ms": 1e308})
    ways = {key: each for key, each in told.items() if key in Offered.model_fields}
    if ways:
        with pytest.raises(BadInput):
            Offered.of({"method": "plain", **ways})


def test_loading_must_pay() -> None:
    """The second half is far away. Routes through the first get slower without the quickest of its holders:
    hours of loading are not won back."""
    near = [node("node-a", 1.0, 3, 0.0, 0), node("node-b", 2.0, 3, 1.0, 0), node("node-c", 2.0, 3, 1.0, 0)]
    nodes = [*near, node("node-s", 1.0, 3, 90.0, 3)]
    sees = among(nodes[0], nodes)
    assert decide_by_routes(nodes[0].held, sees, loading_s=60.0).span == Span(start=3, end=6)
    assert decide_by_routes(nodes[0].held, sees, loading_s=1e6).span is None
    assert decide_by_routes(nodes[0].held, sees, stayed_s=1e6, loading_s=1e6, stay_s=1e6).span is not None
    assert decide_by_routes(nodes[0].held, sees, loading_s=60.0, stay_s=0.1).span is None, (
        "it may soon go again"
    )


def test_the_weakest_block_counts_where_no_route_suffers() -> None:
    """Four stand on the first half, so far away that all routes lead through the one node that holds all."""
    far = [node(f"node-{letter}", 2.0, 3, 300.0 + at, 0) for at, letter in enumerate("abcd")]
    nodes = [node("node-q", 1.0, 6, 0.0, 0), *far]
    sees = among(far[0], nodes)
    at_q = replace(sees, ways=replace(sees.ways, homes=frozenset({"node-q"})))
    moving = decide_by_routes(far[0].held, at_q)
    assert moving.span == Span(start=3, end=6) and moving.before <= ENOUGH * moving.after


def test_a_newcomer_goes_where_routes_get_quicker_and_else_where_the_others_are_weakest() -> None:
    nodes = [node("node-a", 2.0, 6, 0.0, 0), node("node-b", 9.0, 3, 1.0, 3), node("node-c", 2.0, 3, 2.0, 0)]
    me = node("node-n", 1.0, 3, 1.0)
    assert first_by_routes(me.capacity, among(me, nodes)) == Span(start=3, end=6)
    alone = Sight(BLOCKS, among(me, nodes).others, {}, Ways(0.0, {}, frozenset()))
    assert first_by_routes(me.capacity, alone) == first(me.capacity, alone.others, BLOCKS)


class Joining:
    """A newcomer that decides as nodes do: it measures once, then looks, says where it goes, waits, and looks
    again until that is still right."""

    def __init__(self, me: Node, there: Sequence[Node]) -> None:
        self.me, self.there = me, there
        self.counted: dict[str, Span] | None = None
        self.done = False

    def step(self, seen: dict[str, Announcement], board: dict[str, Announcement]) -> None:
        words = [each for each in seen.values() if each.node != self.me.name]
        goes = first_by_routes(self.me.capacity, sight(self.me, words, self.there, self.counted))
        self.done = goes == self.me.span
        self.counted, self.me.span = self.counted or headings(words), goes
        board[self.me.name] = self.me.word(self.there, state="joining")


@given(st.integers(2, 3), st.booleans(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_newcomers_of_one_moment_do_not_all_go_to_the_same_blocks(count: int, gap: bool, rng) -> None:  # type: ignore[no-untyped-def]
    """One half has no holder, or both have slow ones, so that any newcomer is a gain for every route. However
    many come at once, and on what they saw a while ago, the model is whole when they are there, and quick."""
    there = [node("node-x", 8.0, 3, 0.0, 0), node("node-y", 8.0, 3, 1.0, 0 if gap else 3)]
    newcomers = [Joining(node(f"node-{letter}", 1.0, 3, 2.0), there) for letter in "abc"[:count]]
    board = {each.name: each.word(there) for each in there}
    for _ in range(6):
        rng.shuffle(newcomers)
        earlier = dict(board)
        for each in newcomers:
            if not each.done:
                each.step(rng.choice([earlier, board]), board)
    assert all(each.done for each in newcomers)
    assert not gaps([*there, *(each.me for each in newcomers)])
    if not gap:
        assert {str(each.me.span) for each in newcomers} >= {"[0, 3)", "[3, 6)"}


class Mover:
    """A node that holds blocks and decides as nodes do: it looks, says where it goes, waits, looks again."""

    def __init__(self, me: Node, there: Sequence[Node], stayed_s: float) -> None:
        self.me, self.there, self.stayed_s = me, there, stayed_s
        self.counted: dict[str, Span] | None = None
        self.done = self.moved = False

    def step(self, seen: dict[str, Announcement], board: dict[str, Announcement]) -> None:
        words = [each for each in seen.values() if each.node != self.me.name]
        sees = sight(self.me, words, self.there, self.counted)
        goes = decide_by_routes(self.me.held, sees, self.stayed_s).span
        if goes is None or goes == self.me.target:
            self.done, self.moved, self.me.target = True, goes is not None, None
            self.me.span = goes or self.me.span
        else:
            self.counted, self.me.target = self.counted or headings(words), goes
        board[self.me.name] = self.me.word(self.there)


@given(st.sampled_from(((2, True), (5, True), (2, False), (3, False))), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_one_moves_however_many_judge_at_once(case: tuple[int, bool], rng) -> None:  # type: ignore[no-untyped-def]
    """Nobody holds the second half, or a slow node, so that each of the quick holders of the first half would
    move there."""
    count, gap = case
    there = [node(f"node-{letter}", 2.0, 3, 1.0 * at, 0) for at, letter in enumerate("abcde"[:count])]
    movers = [Mover(each, there, 0.0 if gap else STAY_S) for each in there]
    if not gap:
        there.append(node("node-s", 40.0, 3, 1.0, 3))
    board = {each.name: each.word(there) for each in there}
    for _ in range(6):
        rng.shuffle(movers)
        earlier = dict(board)
        for each in movers:
            if not each.done:
                each.step(rng.choice([earlier, board]), board)
    assert all(each.done for each in movers) and sum(each.moved for each in movers) == 1
    assert not gaps(there)


def test_those_who_are_about_to_join_count_though_nobody_can_measure_them() -> None:
    """The way to them leads by way of a third."""
    there = [node("node-x", 8.0, 3, 0.0, 0), node("node-y", 8.0, 3, 1.0, 3)]
    comes, me = node("node-c", 1.0, 3, 20.0, 0), node("node-n", 1.0, 3, 2.0)
    words = [*(each.word(there) for each in there), comes.word(there, state="joining")]
    new, laid, homes = sight(me, words, there).laid(me.capacity)
    assert laid.nodes == ("node-x", "node-y", "node-c") and list(homes) == [0, 1]
    assert new.rtt_ms == pytest.approx([3.0, 2.0, 22.0]) and laid.rtt_ms[2] == pytest.approx(
        [21.0, 20.0, 0.0]
    )
    assert first_by_routes(me.capacity, sight(me, words, there)) == Span(start=3, end=6)


def test_ways_that_nobody_measured() -> None:
    inf = np.inf
    apart: Floats = np.array([[0, 5, inf, inf], [5, 0, 7, inf], [inf, 7, 0, inf], [inf, inf, inf, 0]])
    found, mine = filled(apart, np.array([1.0, inf, inf, inf]))
    assert found[0, 2] == found[2, 0] == 12.0 and found[0, 1] == 5.0 and mine[:2] == pytest.approx([1.0, 6.0])
    assert (found[3, :3] == UNKNOWN_RTT_MS).all() and (np.diag(found) == 0).all()
    assert mine[3] == UNKNOWN_RTT_MS and filled(np.zeros((0, 0)), np.zeros(0))[0].shape == (0, 0)


def test_of_many_some_are_looked_at() -> None:
    many = {f"node-{at}": float(at) for at in range(500)}
    rng = np.random.default_rng(0)
    joining, moving = drawn(many, 1.0, rng), drawn(many, 1.0, rng, moving=True)
    assert (len(joining.rtt_ms), len(joining.homes), len(moving.rtt_ms)) == (KNOWN, CLIENTS, JUDGED)
    assert joining.homes <= joining.rtt_ms.keys() and joining.rtt_ms.items() <= many.items()
    few = dict(list(many.items())[:30])
    assert drawn(few, 1.0, rng, moving=True).homes == few.keys(), "all judge by the same clients"
    assert drawn({}, 1.0, rng) == Ways(1.0, {}, frozenset())
