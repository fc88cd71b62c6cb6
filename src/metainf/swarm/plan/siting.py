"""Which blocks a node takes, so that the routes of clients get quicker by it.

It takes as many as fit: it may run any part of them, so more blocks never make a route longer. Where they
begin is judged by routes. For clients who live beside some of the nodes it is worked out once what everything
up to each block takes at the quickest, and everything from there on; with both it is known for every start
what the best route by way of the newcomer would take, links and queues included. Nodes that quicken no route,
as slow ones do beside many, go to the weakest blocks.
"""

from dataclasses import dataclass

import numpy as np

from metainf.swarm.plan.placement import EDGE, Floats
from metainf.swarm.plan.routing import Costs
from metainf.swarm.plan.table import Ints, Table, missing
from metainf.swarm.words import Demand, Span

TYPICAL = Demand(prompt_tokens=245, new_tokens=90)
CLIENTS, KNOWN = 6, 60
"""Clients for whom routes are judged, and nodes that are looked at; of more, some by chance."""
SLOW, SLOWEST, FAR_MS = 10.0, 2.0, 20.0
"""A block that nobody holds counts as held, so many times slower than the middle node (than the slowest), and
so many milliseconds from everybody."""
ALIKE = 1e-6


@dataclass(frozen=True)
class Newcomer:
    """A node that looks for its blocks: how many fit, milliseconds of one for a token, and the round trips
    (ms) to each row of a table."""

    memory_blocks: int
    decode_ms: float
    prefill_ms: float
    rtt_ms: Floats


@dataclass(frozen=True)
class Clients:
    """Round trips (ms): [client, row] to the rows of a table, and of each client to the newcomer."""

    rtt_ms: Floats
    mine_ms: Floats


def site(new: Newcomer, table: Table, strength: Floats, homes: Ints, demand: Demand = TYPICAL) -> Span:
    """The blocks for a newcomer. `homes` are rows of the table beside which clients live.

    Blocks without a holder count first: without them there are no routes. Then counts by what share routes
    get quicker, summed over the clients; then the weakest blocks, by the requests a second they can take.
    """
    length = min(new.memory_blocks, table.num_blocks)
    windows = np.lib.stride_tricks.sliding_window_view(strength, length)
    lacking = (windows <= EDGE * max(float(strength.max()), EDGE)).sum(axis=1)
    best = np.flatnonzero(lacking == lacking.max())
    if len(homes):
        gain = gains(new, table, homes, demand)[best]
        best = best[gain >= gain.max() - ALIKE]
    weak = np.sort(windows[best], axis=1)
    start = int(best[np.lexsort(weak.T[::-1])[0]])
    return Span(start=start, end=start + length)


def gains(new: Newcomer, table: Table, homes: Ints, demand: Demand = TYPICAL) -> Floats:
    """For every start, by what share the quickest routes get quicker, summed over the clients. A route where
    there was none counts as one."""
    before, through = compared(new, table, homes, demand)
    found: Floats = quickened(before, through).sum(axis=1)
    return found


def quickened(before: Floats, through: Floats) -> Floats:
    """By what share each route gets quicker where it may go either way. Infinite ones are none."""
    some = np.isfinite(before)
    share = np.maximum(0.0, 1.0 - through / np.where(some, before, 1.0))
    found: Floats = np.where(some, share, np.isfinite(through).astype(float))
    return found


def compared(new: Newcomer, table: Table, homes: Ints, demand: Demand = TYPICAL) -> tuple[Floats, Floats]:
    """Milliseconds for a token of each client's quickest route today, and [start, client] of the quickest one
    by way of the newcomer."""
    before, through = ways(new, table, beside(new, table, homes), demand)
    length = min(new.memory_blocks, table.num_blocks)
    starts = np.arange(table.num_blocks - length + 1)
    return before, through[starts, starts + length]


def beside(new: Newcomer, table: Table, homes: Ints, own: bool = False) -> Clients:
    """Clients beside these rows, and with `own` one beside the newcomer."""
    rtt_ms, mine_ms = table.rtt_ms[homes], new.rtt_ms[homes]
    if not own:
        return Clients(rtt_ms, mine_ms)
    return Clients(np.vstack([rtt_ms, new.rtt_ms]), np.append(mine_ms, 0.0))


def ways(new: Newcomer, table: Table, clients: Clients, demand: Demand = TYPICAL) -> tuple[Floats, Floats]:
    """Milliseconds for a token of each client's quickest route without the newcomer, and [first, end, client]
    of the quickest one by way of it, were its blocks [first, end)."""
    net, count = _net(new, table, clients, demand), table.num_blocks
    done = _walk(net.start, net.end, net, net.edge + net.enter, net.links)
    left = _walk(count - net.end, count - net.start, net, net.edge, net.links.T)[::-1]
    before = (done[count] + net.edge).min(axis=1)
    mine = clients.mine_ms / 2
    overhead_ms = Costs().overhead_ms
    coming = (done + net.way).min(axis=2) + overhead_ms
    going = (left + net.way + net.enter).min(axis=2)
    coming[0], going[count] = mine + overhead_ms, mine
    own_ms = new.decode_ms + new.prefill_ms * demand.prompt_tokens / demand.passes
    at = np.arange(count + 1)[:, None]
    through = (coming - own_ms * at)[:, None] + (going + own_ms * at)[None]
    through[np.tril_indices(count + 1)] = np.inf
    # [first, end]: the best within [first, end) is that of the windows it holds
    through = np.minimum.accumulate(np.minimum.accumulate(through[::-1], axis=0)[::-1], axis=1)
    return before, through


@dataclass(frozen=True)
class _Net:
    """The nodes and, last, nobody, who holds everything slowly, or nothing where they hold all. Milliseconds
    for one token: of a block, of entering a node, of each client's way to it, of the newcomer's, and from one
    to another with entering."""

    start: Ints
    end: Ints
    block: Floats
    enter: Floats
    edge: Floats
    way: Floats
    links: Floats


def _net(new: Newcomer, table: Table, clients: Clients, demand: Demand) -> _Net:
    block = table.decode_ms + table.prefill_ms * (demand.prompt_tokens / demand.passes)
    own_ms = new.decode_ms + new.prefill_ms * demand.prompt_tokens / demand.passes
    all_ms = np.append(block, own_ms)
    slow_ms = max(SLOW * float(np.median(all_ms)), SLOWEST * float(all_ms.max()))
    if not missing(zip(table.start.tolist(), table.end.tolist(), strict=True), table.num_blocks):
        slow_ms = np.inf
    enter = np.append(table.queue_ms + Costs().overhead_ms, Costs().overhead_ms)
    links = np.full((len(table) + 1, len(table) + 1), FAR_MS)
    links[:-1, :-1] = table.rtt_ms / 2
    return _Net(
        start=np.append(table.start, 0),
        end=np.append(table.end, table.num_blocks),
        block=np.append(block, slow_ms),
        enter=enter,
        edge=np.append(clients.rtt_ms / 2, np.full((len(clients.rtt_ms), 1), FAR_MS), axis=1),
        way=np.append(new.rtt_ms / 2, FAR_MS),
        links=links + enter,
    )


def _walk(start: Ints, end: Ints, net: _Net, first: Floats, links: Floats) -> Floats:
    """[block, client, node]: the least milliseconds to have done all blocks before it, the last of them at
    that node. As in routing, hops are tried where the giver's span ends or the taker's begins."""
    count = int(end.max())
    done = np.full((count + 1, *first.shape), np.inf)
    for block in range(count):
        holds = (start <= block) & (block < end)
        best = first.copy() if block == 0 else done[block].copy()
        if block:
            ending = end == block
            _hop(np.flatnonzero(ending), np.flatnonzero(holds), done[block], best, links)
            there = np.flatnonzero(np.isfinite(done[block]).any(axis=0))
            _hop(there, np.flatnonzero(start == block), done[block], best, links)
        done[block + 1] = np.where(holds, best + net.block, np.inf)
    return done


def _hop(givers: Ints, takers: Ints, done: Floats, best: Floats, links: Floats) -> None:
    """Better `best` of the takers wherever a hop from a giver is quicker."""
    if len(givers) and len(takers):
        ways = (done[:, givers, None] + links[np.ix_(givers, takers)]).min(axis=1)
        best[:, takers] = np.minimum(best[:, takers], ways)
