"""Placement by routes: what it foretells is what routing then finds, and no block is left out."""

import dataclasses

import numpy as np
import pytest

from metainf.domain import Model
from metainf.swarm.plan.fleet import Fleet, fleet
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.rules import PLACINGS
from metainf.swarm.plan.scenes import Scene, fate
from metainf.swarm.plan.seen import Seen, measured, routes, told_routes
from metainf.swarm.plan.siting import KNOWN, TYPICAL, Newcomer, compared, quickened, site
from metainf.swarm.plan.table import Floats, Table
from metainf.swarm.words import Capacity, Span

BLOCKS = 20
MODEL = Model(name="small", params_b=17.65, num_layers=BLOCKS)


def crew(seed: int, count: int = 30) -> tuple[Fleet, Seen]:
    """Nodes by petals' rule, some of them busy; the last of the fleet is not placed."""
    nodes = fleet(MODEL, count + 1, np.random.default_rng(seed))
    nodes = dataclasses.replace(nodes, memory_blocks=np.minimum(nodes.memory_blocks, 7))
    seen = Seen.nobody(nodes, BLOCKS)
    for row in range(count):
        seen.add(capacity(nodes, row), PLACINGS["petals"](capacity(nodes, row), seen, fate_less()))
    seen.load[:] = np.random.default_rng(seed).uniform(0, 0.9, count + 1)
    return nodes, seen


def fate_less() -> np.random.Generator:
    return np.random.default_rng(0)


def capacity(nodes: Fleet, row: int) -> Capacity:
    return Capacity(
        node=f"node-{row}",
        blocks_per_s=float(nodes.blocks_per_s[row]),
        memory_blocks=int(nodes.memory_blocks[row]),
    )


def quickest_ms(seen: Seen, home: int) -> float:
    """Milliseconds for a token by the routing that clients use."""
    rows = np.flatnonzero(seen.end)
    laid = seen.table(rows, seen.start[rows], seen.end[rows])
    mine = seen.apart_ms(np.array([home]), rows)[0]
    rtt_ms = dict(zip(laid.nodes, mine.tolist(), strict=True))
    return best_route(laid, TYPICAL, Client(rtt_ms=rtt_ms)).expected_ms / TYPICAL.passes


@pytest.mark.parametrize("seed", range(3))
def test_what_it_foretells_is_what_routing_finds(seed: int) -> None:
    nodes, seen = crew(seed)
    row, rows = len(nodes) - 1, np.flatnonzero(seen.end)
    seen.load[row] = 0.0
    new = Newcomer(
        int(nodes.memory_blocks[row]),
        float(nodes.decode_ms[row]) / 4,
        float(nodes.prefill_ms[row]) / 4,
        seen.apart_ms(np.array([row]), rows)[0],
    )
    nodes.decode_ms[row], nodes.prefill_ms[row] = new.decode_ms, new.prefill_ms
    homes = np.array([0, 7, 19])
    before, through = compared(new, seen.table(rows, seen.start[rows], seen.end[rows]), homes)
    assert before == pytest.approx([quickest_ms(seen, rows[home]) for home in homes])
    found = []
    for start in range(BLOCKS - new.memory_blocks + 1):
        span = Span(start=start, end=start + new.memory_blocks)
        seen.add(capacity(nodes, row), span)
        found.append([quickest_ms(seen, rows[home]) for home in homes])
        seen.add(capacity(nodes, row), span, -1)
    assert np.minimum(before, through) == pytest.approx(np.array(found))
    assert (np.array(found) < before - 1e-6).any(), "so quick a node quickens a route"
    where = site(new, seen.table(rows, seen.start[rows], seen.end[rows]), seen.strength, homes)
    share = np.maximum(0, 1 - np.array(found) / before).sum(axis=1)
    assert share[where.start] == pytest.approx(share.max())


def test_blocks_without_a_holder_come_first() -> None:
    """Though a quick node would quicken much elsewhere."""
    table = held(((0, 4, 50.0), (6, 8, 1.0)))
    strength = np.array([1.0, 1, 1, 1, 0, 0, 1, 1])
    assert site(newcomer(2, 1.0, 2), table, strength, np.array([0, 1])) == Span(start=4, end=6)


def test_a_slow_node_helps_the_weakest_blocks() -> None:
    table = held(((0, 8, 1.0), (0, 8, 1.0)))
    strength = np.array([3.0, 3, 3, 2, 1, 3, 3, 3])
    assert site(newcomer(2, 90.0, 2), table, strength, np.array([0, 1])) == Span(start=3, end=5)


def test_a_route_where_there_was_none_counts_as_one() -> None:
    inf = np.inf
    through = np.array([[5.0, inf, 5.0, inf], [inf, inf, inf, 20.0]])
    with np.errstate(all="raise"):
        share = quickened(np.array([10.0, 10.0, inf, inf]), through)
    assert share.tolist() == [[0.5, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def test_numbers_too_large_for_sums_leave_a_place() -> None:
    table = held(((0, 8, 1e308), (0, 8, 1e308)))
    strength = np.array([3.0, 3, 3, 2, 1, 3, 3, 3])
    with np.errstate(all="ignore"):
        assert len(site(newcomer(2, 1.0, 2), table, strength, np.array([0, 1]))) == 2


def test_the_first_nodes_cover_all_blocks() -> None:
    nodes = fleet(MODEL, 40, np.random.default_rng(5))
    seen, room = Seen.nobody(nodes, BLOCKS), 0
    for row in range(len(nodes)):
        seen.add(capacity(nodes, row), routes(capacity(nodes, row), seen, fate_less()))
        room += int(nodes.memory_blocks[row])
        assert room < 2 * BLOCKS or (seen.holders > 0).all()


def test_who_has_measured_whom() -> None:
    """About sixty of those who are there each, and a way that one end knows is known."""
    there = np.arange(3, 4003)
    known = measured(there, there[:1000])
    assert (known == known.T).all() and known.diagonal().all()
    assert known.mean() == pytest.approx(2 * KNOWN / 4000, rel=0.05)
    assert measured(there[:50], there[:50]).all(), "few know one another"
    assert (measured(there, there[:40]) == known[:40, :40]).all()


def test_knowing_only_what_was_measured_still_quickens_routes() -> None:
    """The first of many routes, by a node that knows its own round trips and some of the others'."""
    nodes, seen = crew(1, 90)
    row = len(nodes) - 1
    nodes.decode_ms[row], nodes.prefill_ms[row] = nodes.decode_ms.min() / 4, nodes.prefill_ms.min() / 4
    before = [quickest_ms(seen, home) for home in range(0, 90, 9)]
    seen.add(capacity(nodes, row), told_routes(capacity(nodes, row), seen, fate_less()))
    assert sum(quickest_ms(seen, home) for home in range(0, 90, 9)) < sum(before)


def test_what_chance_decides_hangs_on_no_placement() -> None:
    scene = Scene(num_blocks=BLOCKS, seconds=20.0, view=5)
    same = fate(scene, 50, 3)
    assert same.asks == fate(scene, 50, 3).asks != fate(scene, 50, 4).asks
    known = same.known(1, 1, np.arange(50), 5)
    assert sorted(known) == sorted(same.known(1, 1, np.arange(50), 5)) and len(set(known)) == 5
    gone = np.setdiff1d(np.arange(50), known[:1])
    assert len(set(known) & set(same.known(1, 1, gone, 5))) == 4, "one that left makes way for one other"


def held(spans: tuple[tuple[int, int, float], ...]) -> Table:
    """Nodes as (start, end, milliseconds of a block), 10 ms apart."""
    count = len(spans)
    return Table(
        nodes=tuple(f"node-{at}" for at in range(count)),
        num_blocks=8,
        start=np.array([start for start, _, _ in spans]),
        end=np.array([end for _, end, _ in spans]),
        decode_ms=np.array([decode_ms for _, _, decode_ms in spans]),
        prefill_ms=np.zeros(count),
        queue_ms=np.zeros(count),
        cache_tokens_left=np.full(count, np.inf),
        rtt_ms=10.0 * (1 - np.eye(count)),
    )


def newcomer(blocks: int, decode_ms: float, others: int) -> Newcomer:
    far: Floats = np.full(others, 10.0)
    return Newcomer(blocks, decode_ms, 0.0, far)
