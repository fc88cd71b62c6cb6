"""Placement against all arrangements there are, the other rules, and when a node moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimum import by_brute_force

from metainf.domain import BadInput
from metainf.swarm.plan.placement import arrange, choose, strengths, throughput
from metainf.swarm.plan.rebalancing import STAY_S, decide
from metainf.swarm.plan.rules import PLACINGS, Picture, pipelines, water_filled
from metainf.swarm.words import Capacity, Held, Span


def capacity(name: int, speed: float, room: int) -> Capacity:
    return Capacity(node=f"node-{name}", blocks_per_s=speed, memory_blocks=room)


def holder(name: int, speed: float, room: int, start: int, end: int) -> Held:
    return Held(capacity=capacity(name, speed, room), span=Span(start=start, end=end))


@st.composite
def crews(draw: st.DrawFn, most: int = 4, blocks: int = 7) -> tuple[list[Capacity], int]:
    count = draw(st.integers(2, blocks))
    speeds = st.floats(0.5, 20)
    nodes = [
        capacity(i, draw(speeds), draw(st.integers(1, count + 1))) for i in range(draw(st.integers(1, most)))
    ]
    return nodes, count


@given(crews())
@settings(max_examples=60)
def test_small_swarms_are_within_five_percent_of_the_best(case: tuple[list[Capacity], int]) -> None:
    nodes, blocks = case
    held = arrange(nodes, blocks)
    assert [each.capacity for each in held] == nodes
    assert all(len(each.span) <= each.capacity.memory_blocks for each in held)
    assert throughput(held, blocks) >= 0.95 * by_brute_force(nodes, blocks)


@given(crews(most=6), st.floats(0.5, 20), st.integers(1, 8))
@settings(max_examples=100)
def test_one_node_takes_the_best_span_there_is(
    case: tuple[list[Capacity], int], speed: float, room: int
) -> None:
    nodes, blocks = case
    held = [
        Held(capacity=n, span=Span(start=i % blocks, end=min(blocks, i % blocks + n.memory_blocks)))
        for i, n in enumerate(nodes)
    ]
    new = capacity(99, speed, room)
    chosen = throughput([*held, Held(capacity=new, span=choose(new, strengths(held, blocks)))], blocks)
    every = [
        throughput([*held, Held(capacity=new, span=Span(start=s, end=e))], blocks)
        for s in range(blocks) for e in range(s + 1, min(blocks, s + room) + 1)
    ]  # fmt: skip
    assert chosen == pytest.approx(max(every), rel=1e-6)


def test_a_large_swarm_wastes_little() -> None:
    """How long it takes is for benchmarks/bench_swarm.py: the bar is 1 s."""
    rng = np.random.default_rng(3)
    nodes = [capacity(i, float(np.exp(rng.normal(3, 1))), int(rng.integers(2, 40))) for i in range(1000)]
    held = arrange(nodes, 80)
    bound = sum(node.blocks_per_s for node in nodes) / 80
    assert throughput(held, 80) > 0.95 * bound


def test_an_empty_swarm_and_no_blocks() -> None:
    assert arrange([], 5) == []
    with pytest.raises(BadInput, match="at least one block"):
        arrange([capacity(0, 1, 1)], 0)
    assert throughput([], 3) == 0.0


def test_the_first_node_covers_what_it_can_and_the_second_the_rest() -> None:
    first = choose(capacity(0, 1.0, 4), np.zeros(6))
    assert len(first) == 4
    second = choose(capacity(1, 1.0, 4), strengths([holder(0, 1.0, 4, first.start, first.end)], 6))
    assert {*range(first.start, first.end), *range(second.start, second.end)} == set(range(6))


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.integers(1, 10)), min_size=1, max_size=6), st.integers(1, 20)
)
def test_water_fills_whole_shares(crew: list[tuple[float, int]], total: int) -> None:
    speeds = np.array([speed for speed, _ in crew])
    most = np.array([room for _, room in crew], dtype=float)
    total = min(total, int(most.sum()))
    shares = water_filled(speeds, most, total)
    assert sum(shares) == total
    assert all(0 <= share <= room for share, (_, room) in zip(shares, crew, strict=True))


def test_pipelines_divide_by_speed() -> None:
    held = pipelines([capacity(0, 3.0, 8), capacity(1, 1.0, 4)], 12)
    assert [len(each.span) for each in held] == [8, 4]
    held = pipelines([capacity(0, 3.0, 10), capacity(1, 1.0, 10)], 12)
    assert [len(each.span) for each in held] == [9, 3]
    assert pipelines([capacity(0, 3.0, 8)], 12) == []


@pytest.mark.parametrize("name", PLACINGS)
def test_every_rule_stays_within_memory_and_model(name: str) -> None:
    rng = np.random.default_rng(0)
    held: list[Held] = []
    for index in range(40):
        new = capacity(index, 1 + index % 5, 1 + index % 17)
        span = PLACINGS[name](new, Picture.of(held, 12), rng)
        assert len(span) <= min(new.memory_blocks, 12) and span.end <= 12
        held.append(Held(capacity=new, span=span))
    assert throughput(held, 12) > 0


def test_petals_takes_the_weakest_window() -> None:
    held = [holder(0, 4.0, 2, 0, 2), holder(1, 2.0, 2, 2, 4)]
    assert PLACINGS["petals"](capacity(2, 1.0, 2), Picture.of(held, 6), np.random.default_rng(0)) == Span(
        start=4, end=6
    )


def test_a_node_moves_where_it_is_needed_and_only_there() -> None:
    held = [holder(0, 10.0, 2, 0, 2), holder(1, 10.0, 2, 0, 2), holder(2, 2.0, 2, 2, 4)]
    moving = decide("node-1", held, 4)
    assert moving.span == Span(start=2, end=4) and moving.after >= moving.before / 0.75
    assert decide("node-1", held, 4, stayed_s=STAY_S - 1).span is None
    after = [held[0], held[1].model_copy(update={"span": moving.span}), held[2]]
    assert decide("node-0", after, 4).span is None, "nobody else holds its blocks"
    assert decide("node-1", after, 4).span is None
    with pytest.raises(BadInput, match="node-9"):
        decide("node-9", held, 4)


def test_a_gap_is_filled_at_once() -> None:
    held = [holder(0, 1.0, 2, 0, 2), holder(1, 1.0, 2, 0, 2)]
    filling = decide("node-0", held, 4, stayed_s=0.0)
    assert filling.span == Span(start=2, end=4)
    assert "without a holder" in filling.why


@given(crews(most=5), st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_no_move_loses_a_block_and_moving_ends(case: tuple[list[Capacity], int], chance: object) -> None:
    nodes, blocks = case
    rng = np.random.default_rng(len(nodes) * 100 + blocks)
    held = [Held(capacity=n, span=PLACINGS["random"](n, Picture.of([], blocks), rng)) for n in nodes]
    quiet = 0
    for turn in range(60):
        index = turn % len(held)
        found = decide(held[index].capacity.node, held, blocks)
        quiet = quiet + 1 if found.span is None else 0
        if found.span is not None:
            covered = strengths(held, blocks) > 0
            held[index] = held[index].model_copy(update={"span": found.span})
            assert (strengths(held, blocks) > 0).sum() >= covered.sum()
        if quiet == len(held):
            return
    pytest.fail("nodes move for ever")
