"""Routes against every route there is, what is missing, and how quick it is."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import BadInput, NoFeasible
from metainf.swarm.plan.routing import Client, Costs, MissingBlocks, around, best_route, price
from metainf.swarm.plan.table import Table, current, missing, table
from metainf.swarm.words import Announcement, Demand, Features, Ping, Profile, Span, Stage

MODEL = "b2:" + "0" * 32


def word(node: str, span: tuple[int, int], blocks: int, **more: object) -> Announcement:
    features = {"decode_ms_per_block": 1.0, **more.pop("features", {})}  # type: ignore[dict-item]
    base = Announcement(
        node=node, generation=0, seq=0, address="localhost:1", certificate="sha256:" + "0" * 64, model=MODEL,
        num_blocks=blocks, span=Span(start=span[0], end=span[1]), profile=Profile(dtype="float32"),
        features=Features(**features), issued_s=0.0, valid_until_s=15.0,
    )  # fmt: skip
    return base.model_copy(update=more)


@st.composite
def swarms(draw: st.DrawFn) -> tuple[Table, Demand, Client, Costs]:
    """Few nodes on a plane (so that links obey the triangle inequality), with every kind of charge."""
    blocks, count = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    whole = st.integers(0, 40)
    said, places = [], []
    for index in range(count):
        start = draw(st.integers(0, blocks - 1))
        end = draw(st.integers(start + 1, blocks))
        features = {
            "decode_ms_per_block": 0.5 + draw(whole), "prefill_ms_per_token_block": draw(whole) / 10,
            "queue_ms": float(draw(whole)), "cache_tokens_left": draw(st.sampled_from([2, 10_000])),
        }  # fmt: skip
        said.append(word(f"node-{index}", (start, end), blocks, features=features))
        places.append((draw(whole), draw(whole)))
    spots = np.array(places, dtype=float)
    gaps = np.sqrt(((spots[:, None] - spots[None]) ** 2).sum(-1))
    said = [
        each.model_copy(
            update={"pings": tuple(Ping(node=f"node-{j}", rtt_ms=gaps[i, j]) for j in range(count) if j != i)}
        )
        for i, each in enumerate(said)
    ]
    names = [f"node-{index}" for index in range(count)]
    client = Client(
        rtt_ms={name: float(np.hypot(*spot)) for name, spot in zip(names, places, strict=True)},
        reputation={name: draw(st.sampled_from([0.1, 0.5, 1.0, 4.0])) for name in names},
        avoid=draw(st.sets(st.sampled_from(names), max_size=1)),
    )
    demand = Demand(prompt_tokens=draw(st.integers(0, 5)), new_tokens=draw(st.integers(1, 5)))
    return table(said), demand, client, Costs(through_client=draw(st.booleans()))


def every_route(laid: Table, client: Client) -> Iterator[tuple[Stage, ...]]:
    """All ways to give each block to a node that holds it; neighbours of one node are one stage."""
    holders = [
        [
            i
            for i, node in enumerate(laid.nodes)
            if laid.start[i] <= b < laid.end[i] and node not in client.avoid
        ]
        for b in range(laid.num_blocks)
    ]
    for given_to in itertools.product(*holders):
        stages, at = [], 0
        for node, same in itertools.groupby(given_to):
            length = len(list(same))
            stages.append(Stage(node=laid.nodes[node], span=Span(start=at, end=at + length)))
            at += length
        yield tuple(stages)


@given(swarms())
@settings(max_examples=300)
def test_the_route_is_the_best_of_all(case: tuple[Table, Demand, Client, Costs]) -> None:
    laid, demand, client, costs = case
    prices = [price(laid, stages, demand, client, costs) for stages in every_route(laid, client)]
    if not prices:
        with pytest.raises(MissingBlocks):
            best_route(laid, demand, client, costs)
        return
    route = best_route(laid, demand, client, costs)
    assert route.expected_ms == pytest.approx(min(prices))
    assert price(laid, route.stages, demand, client, costs) == pytest.approx(route.expected_ms)
    ends = [0, *(stage.span.end for stage in route.stages)]
    assert [stage.span.start for stage in route.stages] == ends[:-1] and ends[-1] == laid.num_blocks


def test_replicas_and_shards_mix() -> None:
    slow_whole = word("whole-slow", (0, 4), 4, features={"decode_ms_per_block": 100.0})
    fast_front = word("front-fast", (0, 2), 4)
    laid = table([slow_whole, fast_front], unknown_rtt_ms=2.0)
    route = best_route(laid, Demand(), Client(rtt_ms={"whole-slow": 2.0, "front-fast": 2.0}))
    assert [stage.node for stage in route.stages] == ["front-fast", "whole-slow"]
    assert route.expected_ms == pytest.approx(1 + 1 + 2 + 1 + 1 + 200 + 1)
    alone = best_route(laid, Demand(), Client(avoid=["front-fast"]))
    assert [(stage.node, str(stage.span)) for stage in alone.stages] == [("whole-slow", "[0, 4)")]


def test_it_says_which_blocks_are_missing() -> None:
    laid = table([word("one-node", (0, 3), 10), word("two-node", (5, 8), 10)])
    with pytest.raises(MissingBlocks, match=r"\[3, 5\), \[8, 10\)") as caught:
        best_route(laid, Demand(), Client())
    assert [str(span) for span in caught.value.missing] == ["[3, 5)", "[8, 10)"]
    with pytest.raises(MissingBlocks):
        best_route(table([]), Demand(), Client())


def test_cut_links_are_not_missing_blocks() -> None:
    laid = table([word("one-node", (0, 1), 2), word("two-node", (1, 2), 2)])
    laid.rtt_ms[0, 1] = np.inf
    with pytest.raises(NoFeasible, match="cut"):
        best_route(laid, Demand(), Client())


def test_a_distrusted_or_full_node_is_gone_around() -> None:
    laid = table(
        [word("good-node", (0, 2), 2, features={"decode_ms_per_block": 1.5}), word("poor-node", (0, 2), 2)]
    )
    assert best_route(laid, Demand(), Client()).stages[0].node == "poor-node"
    doubted = Client(reputation={"poor-node": 0.1})
    assert best_route(laid, Demand(), doubted, Costs(doubt=10)).stages[0].node == "good-node"
    full = word("poor-node", (0, 2), 2, features={"cache_tokens_left": 3})
    laid = table([word("good-node", (0, 2), 2, features={"decode_ms_per_block": 1.5}), full])
    assert best_route(laid, Demand(prompt_tokens=4), Client()).stages[0].node == "good-node"


def test_the_last_word_counts_and_only_of_this_model() -> None:
    old, new = word("one-node", (0, 1), 2), word("one-node", (1, 2), 2, seq=1)
    again = word("one-node", (0, 2), 2, generation=1)
    other = word("two-node", (0, 2), 2, model="b2:" + "1" * 32)
    leaving = word("six-node", (0, 2), 2, state="draining")
    assert current([new, old, other, leaving], MODEL, now_s=1.0) == [new]
    assert current([again, new, old], MODEL, now_s=1.0) == [again]
    assert current([old], MODEL, now_s=24.9) == [old], "a clock ten seconds ahead drops nobody"
    assert current([old], MODEL, now_s=25.1) == []


def test_two_models_make_no_table() -> None:
    with pytest.raises(BadInput, match="one model"):
        table([word("one-node", (0, 1), 2), word("two-node", (0, 1), 3)])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=6))
def test_missing_are_the_uncovered(spans: list[tuple[int, int]]) -> None:
    held = [(start, min(10, start + length)) for start, length in spans]
    covered = {block for start, end in held for block in range(start, end)}
    told = {block for span in missing(held, 10) for block in range(span.start, span.end)}
    assert told == set(range(10)) - covered


def crowd(count: int, blocks: int, seed: int) -> list[Announcement]:
    rng = np.random.default_rng(seed)
    names = [f"node-{index}" for index in range(count)]
    said = []
    for name in names:
        length = int(rng.integers(4, 25))
        start = int(rng.integers(0, blocks - length + 1))
        near = rng.choice(count, 20, replace=False)
        pings = tuple(
            Ping(node=names[j], rtt_ms=float(rng.uniform(1, 100))) for j in near if names[j] != name
        )
        features = {"decode_ms_per_block": float(rng.uniform(0.1, 5)), "queue_ms": float(rng.uniform(0, 50))}
        said.append(word(name, (start, start + length), blocks, features=features, pings=pings))
    return said


def test_a_route_through_a_thousand_nodes_covers_every_block() -> None:
    """How long it takes is for benchmarks/bench_swarm.py: the bar is 20 ms."""
    laid = table(crowd(1000, 80, 1))
    route = best_route(laid, Demand(prompt_tokens=100, new_tokens=100), Client())
    edges = [0, *(stage.span.end for stage in route.stages)]
    assert [stage.span.start for stage in route.stages] == edges[:-1] and edges[-1] == 80


def test_a_way_around_a_part_speaks_of_the_models_own_blocks() -> None:
    laid = table([word("left-node", (0, 5), 9), word("mid-node", (3, 7), 9), word("end-node", (6, 9), 9)])
    stages = around(laid, Span(start=4, end=7), Demand(), Client(avoid=["end-node"]))
    assert [(stage.node, str(stage.span)) for stage in stages] == [("mid-node", "[4, 7)")]
    with pytest.raises(MissingBlocks) as caught:
        around(laid, Span(start=4, end=9), Demand(), Client(avoid=["end-node"]))
    assert [str(span) for span in caught.value.missing] == ["[7, 9)"]
    with pytest.raises(MissingBlocks) as caught:
        around(table([word("left-node", (0, 5), 9)]), Span(start=6, end=8), Demand(), Client())
    assert [str(span) for span in caught.value.missing] == ["[6, 8)"]
