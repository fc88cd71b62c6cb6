"""What a new node of a simulated swarm sees of the others: who holds what, how quick they are and how far."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metainf.swarm.plan.fleet import Fleet
from metainf.swarm.plan.rules import Picture
from metainf.swarm.plan.sight import filled
from metainf.swarm.plan.siting import CLIENTS, KNOWN, Newcomer, site
from metainf.swarm.plan.table import Floats, Ints, Table
from metainf.swarm.words import Capacity, Span

FULLEST = 0.97
MIXERS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)
"""Odd numbers of splitmix64, which make a chance of two rows that needs no state."""


@dataclass
class Seen(Picture):
    """A picture that also knows the nodes one by one; rows are those of the fleet. `load` is shared with the
    simulation, `start` and `end` are 0 for nodes that are not there."""

    fleet: Fleet
    start: Ints
    end: Ints
    load: Floats

    @classmethod
    def nobody(cls, fleet: Fleet, num_blocks: int) -> "Seen":
        """Before the first node."""
        none, count = np.zeros(num_blocks), len(fleet)
        start, end = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        return cls(none, none.copy(), fleet, start, end, np.zeros(count))

    def add(self, node: Capacity, span: Span, sign: int = 1) -> None:
        super().add(node, span, sign)
        row = row_of(node)
        self.start[row], self.end[row] = (span.start, span.end) if sign > 0 else (0, 0)

    def table(self, rows: Ints, start: Ints, end: Ints) -> Table:
        """The words of these nodes, which hold from `start` to `end`."""
        busy = np.minimum(self.load[rows], FULLEST)
        return Table(
            nodes=tuple(f"node-{row}" for row in rows),
            num_blocks=len(self.strength),
            start=start,
            end=end,
            decode_ms=self.fleet.decode_ms[rows],
            prefill_ms=self.fleet.prefill_ms[rows],
            queue_ms=self.fleet.decode_ms[rows] * (end - start) * busy / (1 - busy),
            cache_tokens_left=np.full(len(rows), np.inf),
            rtt_ms=self.apart_ms(rows, rows),
        )

    def apart_ms(self, here: Ints, there: Ints) -> Floats:
        """Round trips from these rows to those."""
        places = self.fleet.places
        apart: Floats = np.sqrt(((places[here][:, None] - places[there][None]) ** 2).sum(-1)) + 1.0
        return apart


def row_of(node: Capacity) -> int:
    """Its row in the fleet."""
    return int(node.node.removeprefix("node-"))


def routes(node: Capacity, picture: Picture, rng: np.random.Generator) -> Span:
    """MetaInf's rule by routes: for clients beside some nodes, among as many as a node looks at."""
    return _by_routes(node, picture, rng, told=False)


def told_routes(node: Capacity, picture: Picture, rng: np.random.Generator) -> Span:
    """The same where a node knows no more than real ones do: its own round trips to those that it looks at,
    and between two of them what one of the two has measured of its own."""
    return _by_routes(node, picture, rng, told=True)


def _by_routes(node: Capacity, picture: Picture, rng: np.random.Generator, told: bool) -> Span:
    assert isinstance(picture, Seen)
    there = np.flatnonzero(picture.end)
    rows = rng.choice(there, KNOWN, replace=False) if len(there) > KNOWN else there
    row = row_of(node)
    fleet = picture.fleet
    new = Newcomer(
        node.memory_blocks,
        float(fleet.decode_ms[row]),
        float(fleet.prefill_ms[row]),
        picture.apart_ms(np.array([row]), rows)[0],
    )
    laid = picture.table(rows, picture.start[rows], picture.end[rows])
    if told:
        said = np.where(measured(there, rows), laid.rtt_ms, np.inf)
        laid = replace(laid, rtt_ms=filled(said, new.rtt_ms)[0])
    homes = rng.choice(len(rows), min(CLIENTS, len(rows)), replace=False)
    return site(new, laid, picture.strength, homes)


def measured(there: Ints, rows: Ints) -> NDArray[np.bool_]:
    """[i, j]: whether the first of two of these rows has measured the way to the second, or the second to the
    first. Each has measured about as many of those who are there as a node looks at, by a chance that hangs
    on the two alone."""
    mixed = rows.astype(np.uint64)[:, None] * MIXERS[0] + rows.astype(np.uint64)[None]
    for mixer in MIXERS[1:]:
        mixed = (mixed ^ (mixed >> np.uint64(31))) * mixer
    drawn = (mixed >> np.uint64(11)).astype(float) / 2**53
    found = drawn < KNOWN / max(1, len(there) - 1)
    np.fill_diagonal(found, True)
    known: NDArray[np.bool_] = found | found.T
    return known
