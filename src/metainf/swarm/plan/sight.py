"""What a node sees when it looks for its blocks: who goes where, what they say, and the ways between them.

It knows its own round trips to those that it has measured, and between two others what one of them says, of
which nothing counts for more than an unknown way. The other ways are taken to lead by way of a third; so are
those to a node that is about to join, which has no address yet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metainf.swarm.plan.joining import first
from metainf.swarm.plan.placement import strengths
from metainf.swarm.plan.siting import CLIENTS, KNOWN, Newcomer, site
from metainf.swarm.plan.table import UNKNOWN_RTT_MS, Floats, Ints, Table, table
from metainf.swarm.words import Announcement, Capacity, Held, Span

JUDGED, MOST_CLIENTS = 200, 60
"""Nodes that one that may move looks at, and clients for whom it judges. As many of each, where there are no
more, as there are nodes: all then judge by the same."""
MOVING_S = 300.0
"""How long a node may say that it goes elsewhere before others no longer wait for it: half a minute for its
sessions to end, and the rest to load, which is enough for 40 GB at 150 MB/s."""


@dataclass(frozen=True)
class Ways:
    """What a node knew before it began to decide. Its own milliseconds to read a token of a prompt through a
    block, its round trips (ms) by node, and the nodes beside which clients are taken to live."""

    prefill_ms: float
    rtt_ms: Mapping[str, float]
    homes: frozenset[str]


def drawn(
    rtt_ms: Mapping[str, float], prefill_ms: float, rng: np.random.Generator, moving: bool = False
) -> Ways:
    """Of those that were measured some by chance, if there are many, and clients beside some of them."""
    most, clients = (JUDGED, MOST_CLIENTS) if moving else (KNOWN, CLIENTS)
    names = [sorted(rtt_ms)[at] for at in rng.permutation(len(rtt_ms))[:most]]
    return Ways(prefill_ms, {name: rtt_ms[name] for name in names}, frozenset(names[:clients]))


@dataclass(frozen=True)
class UnderWay:
    """A node as last seen, with its blocks, and for how long (s) in all it has said that it leaves them."""

    span: Span
    goes: bool
    seen_s: float
    said_s: float = 0.0


def followed(
    known: Mapping[str, UnderWay], words: Iterable[Announcement], now_s: float
) -> dict[str, UnderWay]:
    """The same a moment later. Only other blocks, or leaving, end an account: neither another target nor none
    for a while does."""
    found = {}
    for word in words:
        goes, last = word.target not in (None, word.span), known.get(word.node)
        said_s = 0.0
        if last is not None and last.span == word.span:
            said_s = last.said_s + (now_s - last.seen_s if goes and last.goes else 0.0)
        found[word.node] = UnderWay(word.span, goes, now_s, said_s)
    return found


def overdue(known: Mapping[str, UnderWay]) -> frozenset[str]:
    """Those for whom nobody waits any more."""
    return frozenset(node for node, each in known.items() if each.said_s > MOVING_S)


@dataclass(frozen=True)
class Sight:
    """The others, where they are or go (`joining.picture`), their words by node, the ways, and those that
    have been on their way for too long."""

    num_blocks: int
    others: Sequence[Held]
    words: Mapping[str, Announcement]
    ways: Ways
    overdue: frozenset[str] = frozenset()

    def standing(self) -> list[Held]:
        """Those that hold their blocks now and have not said that they go."""
        return [each for each in self.others if self._stands(each)]

    def somebody_moves(self) -> bool:
        """Whether another is on its way from blocks to others, and not for too long."""
        return any(
            (word := self.words.get(each.capacity.node)) is not None and word.target == each.span != word.span
            for each in self.others
            if each.capacity.node not in self.overdue
        )

    def laid(self, me: Capacity) -> tuple[Newcomer, Table, Ints]:
        """This node as one that comes anew, those that it measured and those that are about to join or on
        their way, and the rows beside which clients live."""
        found = [(each, word) for each in self.others if (word := self.words.get(each.capacity.node))]
        near = [pair for pair in found if pair[1].node in self.ways.rtt_ms]
        coming = [
            pair for pair in found if pair[1].node not in self.ways.rtt_ms and pair[1].state != "online"
        ]
        said = [word.model_copy(update={"span": each.span}) for each, word in [*near, *coming[:KNOWN]]]
        far = np.array([self.ways.rtt_ms.get(word.node, np.inf) for word in said])
        laid = table(said, np.inf)
        apart, far = filled(capped(laid.rtt_ms), capped(far))
        new = Newcomer(me.memory_blocks, 1000 / me.blocks_per_s, self.ways.prefill_ms, far)
        homes = np.flatnonzero([node in self.ways.homes for node in laid.nodes])
        return new, replace(laid, rtt_ms=apart), homes

    def _stands(self, each: Held) -> bool:
        word = self.words.get(each.capacity.node)
        return word is not None and word.state == "online" and word.span == each.span


def capped(rtt_ms: Floats) -> Floats:
    """No round trip that was measured counts for more than an unknown one."""
    found: Floats = np.where(np.isfinite(rtt_ms), np.minimum(rtt_ms, UNKNOWN_RTT_MS), rtt_ms)
    return found


def filled(apart_ms: Floats, mine_ms: Floats) -> tuple[Floats, Floats]:
    """Round trips among others, and from this node to them. The infinite ones, which were not measured,
    become those by way of one other node, and at most what routing takes for unknown."""
    known = np.block([[apart_ms, mine_ms[:, None]], [mine_ms[None], np.zeros((1, 1))]])
    best = np.full_like(known, UNKNOWN_RTT_MS)
    for row in known:
        np.minimum(best, row[:, None] + row[None], out=best)
    found = np.where(np.isfinite(known), known, best)
    return found[:-1, :-1], found[-1, :-1]


def first_by_routes(me: Capacity, sight: Sight) -> Span:
    """The blocks that a new node takes, so that routes get quicker; beside the others so that the weakest
    block gets stronger where it has measured nobody."""
    new, laid, homes = sight.laid(me)
    if not len(homes):
        return first(me, sight.others, sight.num_blocks)
    return site(new, laid, strengths(sight.others, sight.num_blocks), homes)
