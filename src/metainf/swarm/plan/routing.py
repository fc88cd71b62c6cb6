"""The quickest way through all blocks: shortest path over link, queue, compute and reputation.

A node may run any part of its span, so whole replicas and shards mix. The path is found block by block. Hops
are tried where the giver's span ends or the taker's begins: in between, moving the place of the hop towards
the faster node never costs more. That is exact wherever going by way of a third node is not quicker than
going straight; measured links that break this rule still give a valid route, perhaps not the very best.
"""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metainf.domain import NoFeasible
from metainf.swarm.plan.table import UNKNOWN_RTT_MS, Floats, Table, clipped, missing
from metainf.swarm.words import Demand, Route, Span, Stage

CLIENT, STAY = -1, -2
Mask = NDArray[np.bool_]


class MissingBlocks(NoFeasible):
    """No node that may be used holds some blocks; `missing` tells which."""

    def __init__(self, spans: tuple[Span, ...], num_blocks: int, note: str = "") -> None:
        self.missing = spans
        told = ", ".join(str(span) for span in spans)
        super().__init__(
            f"expected nodes for all {num_blocks} blocks, found none for {told}: start a node that takes them"
            f"{note}"
        )


@dataclass(frozen=True)
class Costs:
    """What a route is charged besides what nodes announce. Milliseconds, but for the weight of reputation.

    A node of reputation R < 1 is charged `1 + doubt * (1 - R)` times. `through_client` says that every
    activation returns to the client between two nodes, as with `Terms(direct=False)`.
    """

    overhead_ms: float = 1.0
    crowded_ms: float = 10_000.0
    doubt: float = 1.0
    unknown_rtt_ms: float = UNKNOWN_RTT_MS
    through_client: bool = False


@dataclass(frozen=True)
class Client:
    """What the client knows: its own round trips (ms), reputations (1 is neutral), whom it avoids, and whom
    it asks only where the others do not hold all blocks."""

    rtt_ms: Mapping[str, float] = field(default_factory=dict)
    reputation: Mapping[str, float] = field(default_factory=dict)
    avoid: Collection[str] = ()
    doubted: Collection[str] = ()


@dataclass(frozen=True)
class _Charges:
    """Milliseconds for the whole request: of a block, of entering a node, of client to node and back."""

    block: Floats
    enter: Floats
    edge: Floats
    links: Floats


def best_route(table: Table, demand: Demand, client: Client, costs: Costs | None = None) -> Route:
    """The quickest route for the demand. Raises MissingBlocks, or NoFeasible where links are cut."""
    costs = costs or Costs()
    usable = _usable(table, {*client.avoid, *client.doubted})
    gaps = _gaps(table, usable)
    if gaps and client.doubted:
        usable = _usable(table, client.avoid)
        gaps = _gaps(table, usable)
    if gaps or not len(table):
        raise MissingBlocks(gaps or (Span(start=0, end=1),), max(table.num_blocks, 1))
    charges = _charges(table, demand, client, costs)
    came, last = _search(table, usable, charges)
    total = last + charges.edge
    final = int(np.argmin(total))
    if not np.isfinite(total[final]):
        raise NoFeasible(
            "all blocks are held, but the links between their nodes are cut: no route leads through"
        )
    return Route(stages=_walk_back(table, came, final), expected_ms=float(total[final]))


def around(
    table: Table, span: Span, demand: Demand, client: Client, costs: Costs | None = None
) -> tuple[Stage, ...]:
    """The quickest stages through one span only. Raises as `best_route` does, in the model's own numbers."""
    part = clipped(table, span)
    try:
        found = best_route(part, demand, client, costs).stages
    except MissingBlocks as error:
        gaps = error.missing if len(part) else (Span(start=0, end=len(span)),)
        raise MissingBlocks(tuple(_moved(gap, span.start) for gap in gaps), table.num_blocks) from None
    return tuple(Stage(node=stage.node, span=_moved(stage.span, span.start)) for stage in found)


def _moved(span: Span, by: int) -> Span:
    return Span(start=span.start + by, end=span.end + by)


def price(table: Table, stages: tuple[Stage, ...], demand: Demand, client: Client, costs: Costs) -> float:
    """Milliseconds that a given route should take, by the same charges."""
    charges = _charges(table, demand, client, costs)
    row = {node: index for index, node in enumerate(table.nodes)}
    rows = [row[stage.node] for stage in stages]
    spent = charges.edge[rows[0]] + charges.edge[rows[-1]]
    for here, there in itertools.pairwise(rows):
        spent += charges.links[here, there]
    for each, stage in zip(rows, stages, strict=True):
        spent += charges.enter[each] + charges.block[each] * len(stage.span)
    return float(spent)


def _usable(table: Table, avoid: Collection[str]) -> Mask:
    avoided = set(avoid)
    return np.array([node not in avoided for node in table.nodes], dtype=bool)


def _gaps(table: Table, usable: Mask) -> tuple[Span, ...]:
    held = zip(table.start[usable].tolist(), table.end[usable].tolist(), strict=True)
    return missing(held, table.num_blocks) if table.num_blocks else ()


def _charges(table: Table, demand: Demand, client: Client, costs: Costs) -> _Charges:
    passes = float(demand.passes)
    trust = np.array([client.reputation.get(node, 1.0) for node in table.nodes], dtype=float)
    charged = 1.0 + costs.doubt * np.maximum(0.0, 1.0 - trust)
    mine = [client.rtt_ms.get(node, costs.unknown_rtt_ms) for node in table.nodes]
    edge = np.array(mine, dtype=float) / 2 * passes
    crowded = np.where(table.cache_tokens_left < demand.cache_tokens, costs.crowded_ms, 0.0)
    block = (table.decode_ms * passes + table.prefill_ms * demand.prompt_tokens) * charged
    enter = (table.queue_ms + costs.overhead_ms) * passes * charged + crowded
    links = edge[:, None] + edge[None, :] if costs.through_client else table.rtt_ms * (passes / 2)
    return _Charges(block, enter, edge, links)


def _search(table: Table, usable: Mask, charges: _Charges) -> tuple[NDArray[np.int32], Floats]:
    """Where each (block, node) was come from, and the milliseconds to have done all blocks at each node."""
    count = len(table)
    came = np.full((table.num_blocks, count), STAY, dtype=np.int32)
    spent = np.full(count, np.inf)
    for block in range(table.num_blocks):
        holds = usable & (table.start <= block) & (block < table.end)
        if block == 0:
            best, origin = charges.edge + charges.enter, np.full(count, CLIENT, dtype=np.int32)
        else:
            best, origin = spent.copy(), came[block]
            ending = np.flatnonzero(np.isfinite(spent) & (table.end == block))
            _hop(ending, np.flatnonzero(holds), spent, charges, (best, origin))
            begun = np.flatnonzero(holds & (table.start == block))
            _hop(np.flatnonzero(np.isfinite(spent)), begun, spent, charges, (best, origin))
        came[block] = origin
        spent = np.where(holds, best + charges.block, np.inf)
    return came, spent


def _hop(
    givers: NDArray[np.intp],
    takers: NDArray[np.intp],
    spent: Floats,
    charges: _Charges,
    state: tuple[Floats, NDArray[np.int32]],
) -> None:
    """Better `state` (milliseconds, origin) of the takers wherever a hop from a giver is quicker."""
    if not len(givers) or not len(takers):
        return
    best, origin = state
    ways = charges.links[np.ix_(givers, takers)]
    ways += spent[givers][:, None]
    chosen = ways.argmin(axis=0)
    reached = ways[chosen, np.arange(len(takers))] + charges.enter[takers]
    better = reached < best[takers]
    best[takers[better]] = reached[better]
    origin[takers[better]] = givers[chosen[better]]


def _walk_back(table: Table, came: NDArray[np.int32], final: int) -> tuple[Stage, ...]:
    """Stages in order, from the last node back to the client."""
    stages: list[Stage] = []
    node, end = final, table.num_blocks
    for block in range(table.num_blocks - 1, -1, -1):
        origin = int(came[block, node])
        if origin != STAY:
            stages.append(Stage(node=table.nodes[node], span=Span(start=block, end=end)))
            node, end = origin, block
    return tuple(reversed(stages))
