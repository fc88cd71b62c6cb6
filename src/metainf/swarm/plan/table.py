"""Announcements as arrays, laid out once for the same announcements: a route is then quick to find."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput
from metainf.swarm.words import Announcement, Span

UNKNOWN_RTT_MS = 150.0
"""Round trip between two nodes that neither has measured."""
SKEW_S = 10.0
"""How far two honest clocks may stand apart."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """One row a node; `rtt_ms[i, j]` is the round trip from row i to row j, infinite where it is cut. Arrays
    are not to be written to."""

    nodes: tuple[str, ...]
    num_blocks: int
    start: Ints
    end: Ints
    decode_ms: Floats
    prefill_ms: Floats
    queue_ms: Floats
    cache_tokens_left: Floats
    rtt_ms: Floats

    def __len__(self) -> int:
        return len(self.nodes)


def current(
    announced: Iterable[Announcement], model: str, now_s: float, skew_s: float = SKEW_S
) -> list[Announcement]:
    """The last word of each node that serves this very model, is online and has not expired.

    A node that says two things counts by the higher generation, then the higher seq. Expiry is judged
    `skew_s` late, so that a clock that runs ahead drops nobody.
    """
    last: dict[str, Announcement] = {}
    for word in announced:
        known = last.get(word.node)
        if known is None or (word.generation, word.seq) > (known.generation, known.seq):
            last[word.node] = word
    return [
        word
        for word in last.values()
        if word.model == model and word.state == "online" and word.valid_until_s + skew_s > now_s
    ]


class _Words:
    """Announcements that are equal where they are the very same objects, which never change."""

    def __init__(self, announced: Sequence[Announcement]) -> None:
        self.said = tuple(announced)
        self._which = tuple(map(id, self.said))

    def __hash__(self) -> int:
        return hash(self._which)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Words) and self._which == other._which


def table(announced: Sequence[Announcement], unknown_rtt_ms: float = UNKNOWN_RTT_MS) -> Table:
    """Lay out the words of one model's nodes, each node once. Raises BadInput where they disagree on the
    number of blocks.

    The last tables are kept: texts between two readings of the directory share one.
    """
    return _table(_Words(announced), unknown_rtt_ms)


@lru_cache(maxsize=2)
def _table(words: _Words, unknown_rtt_ms: float) -> Table:
    announced = words.said
    counts = {word.num_blocks for word in announced}
    if len(counts) > 1:
        raise BadInput(f"expected one model, found announcements of {sorted(counts)} blocks")
    said = [word.features for word in announced]
    nodes = tuple(word.node for word in announced)
    return Table(
        nodes=nodes,
        num_blocks=counts.pop() if counts else 0,
        start=np.array([word.span.start for word in announced], dtype=np.int64),
        end=np.array([word.span.end for word in announced], dtype=np.int64),
        decode_ms=np.array([each.decode_ms_per_block for each in said], dtype=float),
        prefill_ms=np.array([each.prefill_ms_per_token_block for each in said], dtype=float),
        queue_ms=np.array([each.queue_ms for each in said], dtype=float),
        cache_tokens_left=np.array([each.cache_tokens_left for each in said], dtype=float),
        rtt_ms=_round_trips(announced, nodes, unknown_rtt_ms),
    )


def clipped(laid: Table, span: Span) -> Table:
    """The same nodes as if the model were only that span, which becomes [0, length)."""
    keep = np.flatnonzero((laid.start < span.end) & (laid.end > span.start))
    return Table(
        nodes=tuple(laid.nodes[row] for row in keep),
        num_blocks=len(span),
        start=np.maximum(laid.start[keep], span.start) - span.start,
        end=np.minimum(laid.end[keep], span.end) - span.start,
        decode_ms=laid.decode_ms[keep],
        prefill_ms=laid.prefill_ms[keep],
        queue_ms=laid.queue_ms[keep],
        cache_tokens_left=laid.cache_tokens_left[keep],
        rtt_ms=laid.rtt_ms[np.ix_(keep, keep)],
    )


def _round_trips(announced: Sequence[Announcement], nodes: tuple[str, ...], unknown_ms: float) -> Floats:
    """Each node's own measurement; where it has none, the other side's; where neither has, the default."""
    row = {node: index for index, node in enumerate(nodes)}
    measured = [
        (here, there, ping.rtt_ms)
        for here, word in enumerate(announced)
        for ping in word.pings
        if (there := row.get(ping.node)) is not None
    ]
    known = np.full((len(nodes), len(nodes)), unknown_ms)
    if measured:
        rows, columns, rtt_ms = map(np.array, zip(*measured, strict=True))
        known[columns, rows] = rtt_ms
        known[rows, columns] = rtt_ms
    np.fill_diagonal(known, 0.0)
    return known


def missing(spans: Iterable[tuple[int, int]], num_blocks: int) -> tuple[Span, ...]:
    """The blocks that no span covers, as few spans as tell it."""
    found, reached = [], 0
    for start, end in sorted(spans):
        if start > reached:
            found.append(Span(start=reached, end=min(start, num_blocks)))
        reached = max(reached, end)
        if reached >= num_blocks:
            return tuple(found)
    return (*found, Span(start=reached, end=num_blocks))
