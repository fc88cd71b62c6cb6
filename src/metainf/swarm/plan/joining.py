"""How a node joins others and moves among them: what fits, whose blocks count, who goes first, whom to ping.

Two nodes that see the same lack at once would both go there. A node therefore announces where it is about to
go, waits a moment, and looks again: of those who set out meanwhile, the lower name goes first.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metainf.domain import BadInput
from metainf.swarm.plan.placement import choose, strengths
from metainf.swarm.plan.table import SKEW_S
from metainf.swarm.words import Announcement, Capacity, Held, Profile, Span

GIB = 2**30
CACHE_TOKENS = 8192
"""Of all sessions together, for which room is kept in the caches where nobody says how many."""


@dataclass(frozen=True)
class Need:
    """Bytes that one block takes: its weights, and the keys and values of all tokens that may be kept."""

    weights: int
    cache: int

    @property
    def bytes(self) -> int:
        return self.weights + self.cache


@dataclass(frozen=True)
class Subject:
    """What nodes must have in common to help one another: the model and how it is calculated."""

    model: str
    num_blocks: int
    profile: Profile

    def admits(self, word: Announcement) -> bool:
        """Whether a node works on the same."""
        mine, theirs = self.profile, word.profile
        return (
            word.model == self.model
            and word.num_blocks == self.num_blocks
            and (theirs.engine, theirs.numbers) == (mine.engine, mine.numbers)
        )


def fitting(budget: float, need: Need) -> int:
    """How many blocks fit into the budget (bytes). Raises BadInput where not even one does."""
    count = int(budget // need.bytes)
    if count < 1:
        raise BadInput(
            f"expected memory for one block, {need.bytes / GIB:.3g} GiB ({need.weights / GIB:.3g} of "
            f"weights, {need.cache / GIB:.3g} of keys and values), found {max(budget, 0) / GIB:.3g} GiB: "
            "free some, give more (--memory-gib), or take another machine"
        )
    return count


def heading(word: Announcement) -> Span | None:
    """The blocks that a node holds or is about to hold; None where it leaves."""
    return word.target if word.state == "draining" else word.target or word.span


def on_its_way(word: Announcement) -> bool:
    """Whether a node has said where it goes, and is not there yet."""
    return word.state == "joining" or word.target is not None


def capacity(word: Announcement) -> Capacity:
    """A node as placement sees it."""
    return Capacity(
        node=word.node,
        blocks_per_s=1000 / word.features.decode_ms_per_block,
        memory_blocks=word.features.memory_blocks or len(word.span),
    )


def headings(words: Iterable[Announcement]) -> dict[str, Span]:
    """Where each node is or goes."""
    return {word.node: span for word in words if (span := heading(word)) is not None}


def picture(
    words: Iterable[Announcement],
    subject: Subject,
    gone: Collection[str] = (),
    me: str = "",
    counted: Mapping[str, Span] | None = None,
) -> list[Held]:
    """The other nodes that work on the same, where they are or go; `words` has each node once.

    `gone` are nodes that nobody reaches. With `counted`, the headings that were known when `me` decided,
    nodes of a higher name that set out since then are seen where they stand: they will make way.
    """
    found = []
    for word in words:
        if word.node == me or word.node in gone or not subject.admits(word):
            continue
        span = heading(word)
        if counted is not None and on_its_way(word) and word.node > me and counted.get(word.node) != span:
            span = word.span if word.state == "online" else None
        if span is not None:
            found.append(Held(capacity=capacity(word), span=span))
    return found


def first(me: Capacity, others: Sequence[Held], num_blocks: int) -> Span:
    """The blocks that a new node takes beside the others."""
    return choose(me, strengths(others, num_blocks))


def neighbours(
    words: Sequence[Announcement], span: Span, count: int, rng: np.random.Generator
) -> list[Announcement]:
    """Nodes to measure the way to, at most `count`: mostly those that activations may come from or go to, the
    others by chance."""
    near: list[Announcement] = []
    far: list[Announcement] = []
    for word in words:
        touches = word.span.start <= span.end < word.span.end or word.span.start < span.start <= word.span.end
        (near if touches else far).append(word)
    order = [near[i] for i in rng.permutation(len(near))]
    rest = [far[i] for i in rng.permutation(len(far))]
    most = max(count - len(rest), count * 3 // 4)
    return [*order[:most], *rest][:count]


def clock_off_s(ages_s: Sequence[float], lifetime_s: float) -> float | None:
    """How far this machine's clock is ahead (behind: negative) of those who wrote the records, judged by the
    records' ages; None where it is not. A record is put anew long before its lifetime is over."""
    if not ages_s:
        return None
    middle = float(np.median(ages_s))
    if middle < -SKEW_S:
        return middle
    return middle if middle > lifetime_s + SKEW_S else None


def span_of(text: str) -> Span:
    """A span written as `0:12`, `0-12` or `[0, 12)`: blocks 0 to 11. Raises BadInput."""
    found = re.fullmatch(r"\[?\s*(\d{1,5})\s*[:,-]\s*(\d{1,5})\s*\)?", text.strip())
    if found is None:
        raise BadInput(f"expected a span such as 0:12 (blocks 0 to 11), found {text!r:.60}")
    start, end = int(found[1]), int(found[2])
    if start >= end:
        raise BadInput(f"expected a span whose start lies below its end, found {text!r:.60}")
    return Span(start=start, end=end)
