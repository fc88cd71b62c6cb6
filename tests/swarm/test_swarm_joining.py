"""Whose blocks count when a node decides, who goes first, what fits, what clocks and pings tell."""

import asyncio
import itertools
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput, Device, Hardware
from metainf.swarm.plan.joining import (
    Need,
    Subject,
    clock_off_s,
    first,
    fitting,
    headings,
    neighbours,
    picture,
    span_of,
)
from metainf.swarm.plan.rebalancing import decide
from metainf.swarm.plan.table import missing
from metainf.swarm.words import Announcement, Capacity, Features, Held, Profile, Span

pytest.importorskip("grpc", reason="needs the extra swarm")
pytest.importorskip("cryptography", reason="needs the extra swarm")

from metainf.swarm.host.load import Load
from metainf.swarm.host.measuring import Circumstances, Speed, hardware_name
from metainf.swarm.host.pings import Pings, own_host, round_trip_ms, unspecified

BLOCKS, MODEL = 6, "b2:" + "0" * 32
SUBJECT = Subject(MODEL, BLOCKS, Profile(dtype="float32"))


def word(
    node: str, span: tuple[int, int], target: tuple[int, int] | None = None, **more: object
) -> Announcement:
    told = {
        "node": node, "generation": 1, "seq": 1, "address": "127.0.0.1:1", "model": MODEL,
        "certificate": "sha256:" + "0" * 64, "num_blocks": BLOCKS, "span": Span(start=span[0], end=span[1]),
        "target": None if target is None else Span(start=target[0], end=target[1]),
        "profile": Profile(dtype="float32"), "features": Features(decode_ms_per_block=1.0, memory_blocks=3),
        "issued_s": 0.0, "valid_until_s": 15.0,
    }  # fmt: skip
    return Announcement.model_validate({**told, **more})


def spans(held: list[Held]) -> dict[str, str]:
    return {each.capacity.node: str(each.span) for each in held}


def test_nodes_count_where_they_go() -> None:
    words = [
        word("node-a", (0, 3)),
        word("node-b", (0, 3), (3, 6)),
        word("node-c", (3, 6), state="joining"),
        word("node-d", (3, 6), state="draining"),
        word("node-e", (0, 3), (2, 4), state="draining"),
        word("node-f", (0, 6), model="b2:" + "1" * 32),
        word("node-g", (0, 6), profile=Profile(dtype="float32", quantization="int8")),
        word("node-h", (0, 6)),
    ]
    assert spans(picture(words, SUBJECT, gone={"node-h"}, me="node-a")) == {
        "node-b": "[3, 6)", "node-c": "[3, 6)", "node-e": "[2, 4)"
    }  # fmt: skip


def test_of_those_who_set_out_meanwhile_the_lower_name_goes_first() -> None:
    before = [word("node-a", (0, 3)), word("node-c", (0, 3))]
    counted = headings(before)
    after = [
        word("node-a", (0, 3), (3, 6)),
        word("node-c", (0, 3), (3, 6)),
        word("node-d", (0, 1), state="joining"),
    ]
    assert spans(picture(after, SUBJECT, me="node-b", counted=counted)) == {
        "node-a": "[3, 6)",
        "node-c": "[0, 3)",
    }
    known = headings(after)
    assert spans(picture(after, SUBJECT, me="node-b", counted=known))["node-c"] == "[3, 6)"


class Mover:
    """A node that decides as nodes do: it looks, says where it goes, waits, looks again."""

    def __init__(self, name: str) -> None:
        self.name, self.span = name, Span(start=0, end=3)
        self.target: Span | None = None
        self.counted: dict[str, Span] | None = None
        self.done = self.moved = False

    def step(self, seen: dict[str, Announcement], board: dict[str, Announcement]) -> None:
        words = [each for each in seen.values() if each.node != self.name]
        mine = Held(capacity=Capacity(node=self.name, blocks_per_s=1000, memory_blocks=3), span=self.span)
        others = picture(words, SUBJECT, me=self.name, counted=self.counted)
        goes = decide(self.name, [*others, mine], BLOCKS, stayed_s=0).span
        if goes is None or goes == self.target:
            self.done, self.moved, self.target = True, goes is not None, None
            self.span = goes or self.span
        else:
            self.counted = self.counted or headings(words)
            self.target = goes
        there = None if self.target is None else (self.target.start, self.target.end)
        board[self.name] = word(self.name, (self.span.start, self.span.end), there)


@given(st.integers(2, 5), st.randoms(use_true_random=False))
def test_a_gap_is_filled_by_one_however_many_see_it(count: int, rng) -> None:  # type: ignore[no-untyped-def]
    """Nobody holds the second half. The nodes act in any order, and on what they saw a while ago, as long as
    each announces what it decided before the others look again after their wait."""
    movers = [Mover(f"node-{letter}") for letter in "abcde"[:count]]
    board = {each.name: word(each.name, (0, 3)) for each in movers}
    for _ in range(6):
        rng.shuffle(movers)
        earlier = dict(board)
        for each in movers:
            if not each.done:
                each.step(rng.choice([earlier, board]), board)
    held = [(each.span.start, each.span.end) for each in movers]
    assert not missing(held, BLOCKS)
    assert sum(each.moved for each in movers) == 1


def test_newcomers_fill_what_is_missing() -> None:
    held: list[Held] = []
    for name in ("node-a", "node-b", "node-c"):
        me = Capacity(node=name, blocks_per_s=100, memory_blocks=2)
        held.append(Held(capacity=me, span=first(me, held, BLOCKS)))
    assert not missing([(each.span.start, each.span.end) for each in held], BLOCKS)


def test_what_fits() -> None:
    need = Need(weights=700, cache=300)
    assert [fitting(budget, need) for budget in (1000, 1999, 3500)] == [1, 1, 3]
    with pytest.raises(BadInput, match=r"memory for one block.*--memory-gib"):
        fitting(999, need)


@pytest.mark.parametrize("text", ["3:5", "3-5", "[3, 5)", " 3,5 "])
def test_spans_are_read(text: str) -> None:
    assert span_of(text) == Span(start=3, end=5)


@pytest.mark.parametrize("text", ["", "3", "5:3", "3:3", "a:b", "-1:3", "1:2:3"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(BadInput, match="expected a span"):
        span_of(text)


def test_clocks() -> None:
    assert clock_off_s([], 15) is None
    assert clock_off_s([0.1, 2.9, 14, -3], 15) is None
    assert clock_off_s([-300, -299, 1], 15) == -299
    assert clock_off_s([121, 122, 123], 15) == 122


def test_neighbours_come_first() -> None:
    rng = np.random.default_rng(1)
    near = [word(f"near-{i}", (3, 6)) for i in range(8)]
    far = [word(f"far-{i}", (0, 3)) for i in range(8)]
    drawn = [neighbours([*far, *near], Span(start=0, end=3), 8, rng) for _ in range(20)]
    assert all(sum(each.node.startswith("near") for each in some) == 6 for some in drawn)
    assert len({each.node for each in itertools.chain(*drawn)}) == 16
    assert len(neighbours(far, Span(start=0, end=3), 20, rng)) == 8


def test_load_follows_what_is_done() -> None:
    load = Load.at_rest(Speed(decode_ms_per_block=1.0, prefill_ms_per_token_block=0.1), slowness=2.0)
    assert (load.decode_ms, load.prefill_ms, load.queue_ms()) == (2.0, 0.2, 0.0)
    for _ in range(100):
        load.done(30.0, 40.0, 4, 1)
        load.done(10.0, 40.0, 4, 20)
    assert load.decode_ms == pytest.approx(10.0, rel=0.01) and load.prefill_ms == pytest.approx(0.5, rel=0.01)
    assert load.queue_ms() == pytest.approx(20.0) and load.queue_ms() == 0.0
    load.waiting = 3
    assert load.queue_ms() == pytest.approx(40.0), "those who wait go into the next pass together"


def test_a_speed_is_known_by_its_circumstances() -> None:
    plain = Circumstances("cpu", MODEL, Profile(dtype="float32"), 2)
    others = [
        Circumstances("gpu", MODEL, Profile(dtype="float32"), 2),
        Circumstances("cpu", "b2:" + "1" * 32, Profile(dtype="float32"), 2),
        Circumstances("cpu", MODEL, Profile(dtype="float32", quantization="int8"), 2),
        Circumstances("cpu", MODEL, Profile(dtype="float32"), 1),
    ]
    assert len({each.mark for each in [plain, *others]}) == 5
    device = Device.of({"name": "x", "kind": "cpu", "source": "test"})
    assert hardware_name([Hardware(device=device, count=2, platform="8 cores")]) == "2x x, 8 cores"
    assert hardware_name([]) == "unknown"


def test_pings_tell_who_is_there() -> None:
    """One listens, one refuses, one has no address that can be; what was measured is told, who refuses is
    gone until it answers again."""

    async def story() -> None:
        with socket.socket() as listening, socket.socket() as closed:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            closed.bind(("127.0.0.1", 0))
            there, nobody = (f"127.0.0.1:{each.getsockname()[1]}" for each in (listening, closed))
            words = [
                word("node-a", (3, 6), address=there),
                word("node-b", (3, 6), address=nobody),
                word("node-c", (3, 6), address="nowhere"),
            ]
            pings = Pings(np.random.default_rng(0))
            await pings.around(words, Span(start=0, end=3))
            assert [ping.node for ping in pings.told()] == ["node-a"] and pings.told()[0].rtt_ms > 0
            assert pings.gone == {"node-b"}
            closed.listen()
            await pings.around(words, Span(start=0, end=3))
            assert {ping.node for ping in pings.told()} == {"node-a", "node-b"} and not pings.gone
            await pings.around([], Span(start=0, end=3))
            assert pings.told() == ()
            with pytest.raises(ValueError, match="host:port"):
                await round_trip_ms("127.0.0.1:0")

    asyncio.run(story())


def test_addresses() -> None:
    urls = ["nats://127.0.0.1:4222,nats://10.1.1.1", "dht://127.0.0.1:9/peer", "/ip4/127.0.0.1/tcp/9/p2p/x"]
    assert [own_host(each) for each in urls] == ["127.0.0.1"] * 3
    assert [unspecified(each) for each in ("0.0.0.0", "::", "[::]", "127.0.0.1", "a.example")] == [
        True, True, True, False, False
    ]  # fmt: skip
