"""Which contiguous blocks a node takes, so that the weakest block of the swarm gets as strong as can be.

A node that holds k blocks and makes v block passes a second carries v / k requests a second through each
of them. A block's strength is the sum over its holders, the swarm's throughput the strength of its weakest
block. Fewer blocks make a node stronger where it stands, more blocks let it help in more places: start and
length are both chosen.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput
from metainf.swarm.plan.programming import better
from metainf.swarm.words import Capacity, Held, Span

Floats = NDArray[np.float64]
EDGE = 1e-9
"""Relative difference below which two throughputs count as equal."""
SHARPNESS, SOFTNESS = 6.0, 0.02
PASSES = 4
TRIED = 30
SMALL, EXACT = 8, 200
"""Nodes up to which a swarm is arranged from several beginnings and by pairs; spans up to which exactly."""


def strengths(held: Iterable[Held], num_blocks: int) -> Floats:
    """Requests a second that each block can take: the sum of its holders' shares."""
    steps = np.zeros(num_blocks + 1)
    for each in held:
        share = each.capacity.blocks_per_s / len(each.span)
        steps[each.span.start] += share
        steps[each.span.end] -= share
    return np.maximum(np.cumsum(steps)[:-1], 0.0)


def throughput(held: Iterable[Held], num_blocks: int) -> float:
    """Requests a second of the weakest block; 0 where a block is missing."""
    found = strengths(held, num_blocks)
    least = float(found.min())
    return least if least > EDGE * max(float(found.max()), EDGE) else 0.0


def choose(node: Capacity, strength: Floats, scale: float | None = None) -> Span:
    """The span for one node beside the strengths of the others: every start and length is tried.

    First counts the weakest block afterwards, then, among equals, how the other weak blocks fare. `scale` is
    the strength to hope for (requests a second), by default the mean of all blocks with this node.
    """
    return _spans(node, strength, scale)[0]


def _spans(node: Capacity, strength: Floats, scale: float | None, count: int = 1) -> list[Span]:
    """The best spans, best first."""
    blocks = len(strength)
    widest = min(node.memory_blocks, blocks)
    lengths = np.arange(1, widest + 1)
    shares = node.blocks_per_s / lengths
    hoped = scale or (float(strength.sum()) + node.blocks_per_s) / blocks
    starts = np.arange(blocks)
    inside = starts[None, :] + lengths[:, None] <= blocks
    least = np.minimum(_within(strength, widest) + shares[:, None], _outside(strength, widest))
    weak = _weakness(strength, hoped)
    gain = np.cumsum(_weakness(strength[None, :] + shares[:, None], hoped) - weak, axis=1)
    gain = np.concatenate([np.zeros((widest, 1)), gain], axis=1)
    ends = np.minimum(starts[None, :] + lengths[:, None], blocks)
    gained = np.take_along_axis(gain, ends, axis=1) - gain[:, :blocks]
    least, gained = np.where(inside, least, -np.inf), np.where(inside, gained, np.inf)
    rounded = np.round(least / (EDGE * hoped))
    if count == 1:
        ties = np.flatnonzero(rounded.ravel() >= rounded.max())
        order = ties[np.argmin(gained.ravel()[ties])][None]
    else:
        order = np.lexsort((gained.ravel(), -rounded.ravel()))[: min(count, int(inside.sum()))]
    return [Span(start=int(at % blocks), end=int(at % blocks) + int(lengths[at // blocks])) for at in order]


def _weakness(strength: Floats, hoped: float) -> Floats:
    """How badly a block is off: steep below the strength hoped for, nearly flat above."""
    found: Floats = (strength / hoped + SOFTNESS) ** -SHARPNESS
    return found


def _within(strength: Floats, widest: int) -> Floats:
    """[length - 1, start]: the least strength within each window; windows that stick out are cut."""
    rows = np.empty((widest, len(strength)))
    rows[0] = strength
    for length in range(1, widest):
        rows[length] = rows[length - 1]
        np.minimum(rows[length - 1, :-length], strength[length:], out=rows[length, :-length])
    return rows


def _outside(strength: Floats, widest: int) -> Floats:
    """[length - 1, start]: the least strength outside each window; infinite where nothing is outside."""
    blocks = len(strength)
    before = np.concatenate([[np.inf], np.minimum.accumulate(strength)])[:blocks]
    after = np.concatenate([np.minimum.accumulate(strength[::-1])[::-1], [np.inf]])
    ends = np.minimum(np.arange(blocks)[None, :] + np.arange(1, widest + 1)[:, None], blocks)
    found: Floats = np.minimum(before[None, :], after[ends])
    return found


def arrange(nodes: Sequence[Capacity], num_blocks: int) -> list[Held]:
    """Spans for a whole swarm at once, in the order given. Raises BadInput for no blocks.

    Nodes are placed one after another, the strongest first, and placed anew beside all others as long as that
    helps. Small swarms begin in several orders, and pairs of nodes are moved together too; the smallest are
    handed to integer programming.
    """
    if num_blocks < 1:
        raise BadInput(f"expected at least one block, found {num_blocks}")
    if not nodes:
        return []
    task = _Task(nodes, num_blocks)
    tries = [_improved(task, task.one_by_one(order)) for order in _orders(nodes)]
    best = max(tries, key=task.worth)
    if len(nodes) <= SMALL:
        best = max((_in_pairs(task, spans) for spans in tries), key=task.worth)
    if sum(num_blocks * min(node.memory_blocks, num_blocks) for node in nodes) <= EXACT:
        best = better(nodes, num_blocks, task.throughput(best) * (1 + 1e-3)) or best
    return [Held(capacity=node, span=span) for node, span in zip(nodes, best, strict=True)]


@dataclass(frozen=True)
class _Task:
    """All nodes and the number of blocks; spans come in the order of the nodes."""

    nodes: Sequence[Capacity]
    num_blocks: int

    @property
    def hoped(self) -> float:
        """The mean strength of a block whatever the spans are: no arrangement beats it."""
        return sum(node.blocks_per_s for node in self.nodes) / self.num_blocks

    def add(self, strength: Floats, index: int, span: Span, sign: float = 1.0) -> None:
        """Add (or take away) one node's share in place."""
        strength[span.start : span.end] += sign * self.nodes[index].blocks_per_s / len(span)

    def strength(self, spans: Sequence[Span]) -> Floats:
        found = np.zeros(self.num_blocks)
        for index, span in enumerate(spans):
            self.add(found, index, span)
        return found

    def value(self, strength: Floats) -> tuple[float, float]:
        """The weakest block first, then how the other weak ones fare."""
        hoped = self.hoped
        return round(float(strength.min()) / hoped, 9), -float(
            _weakness(np.maximum(strength, 0), hoped).sum()
        )

    def throughput(self, spans: Sequence[Span]) -> float:
        """Requests a second of the weakest block."""
        return max(0.0, float(self.strength(spans).min()))

    def worth(self, spans: Sequence[Span]) -> tuple[float, float]:
        return self.value(self.strength(spans))

    def one_by_one(self, order: Sequence[int]) -> list[Span]:
        """Every node where it helps most beside those before it."""
        spans: dict[int, Span] = {}
        strength = np.zeros(self.num_blocks)
        for index in order:
            spans[index] = choose(self.nodes[index], strength, self.hoped)
            self.add(strength, index, spans[index])
        return [spans[index] for index in range(len(self.nodes))]


def _orders(nodes: Sequence[Capacity]) -> list[list[int]]:
    """Orders to begin with: strongest first; for small swarms also by memory and from the weakest."""
    fast = sorted(range(len(nodes)), key=lambda i: (-nodes[i].blocks_per_s, nodes[i].node))
    if len(nodes) > SMALL:
        return [fast]
    roomy = sorted(fast, key=lambda i: -nodes[i].memory_blocks)
    return [fast, fast[::-1], roomy, roomy[::-1]]


def _improved(task: _Task, spans: list[Span]) -> list[Span]:
    """Place each node anew beside all others until none moves, or for a few passes in a large swarm."""
    strength = task.strength(spans)
    best = task.value(strength)
    passes = PASSES if len(task.nodes) <= SMALL else 1
    for _ in range(passes):
        moved = False
        for index, node in enumerate(task.nodes):
            task.add(strength, index, spans[index], -1.0)
            span = choose(node, np.maximum(strength, 0.0), task.hoped)
            task.add(strength, index, span)
            found = task.value(strength)
            if span != spans[index] and found > best:
                spans[index], best, moved = span, found, True
            else:
                task.add(strength, index, span, -1.0)
                task.add(strength, index, spans[index])
        if not moved:
            break
    return spans


def _in_pairs(task: _Task, spans: list[Span]) -> list[Span]:
    """Take two nodes out, try the best few spans of the first, and the best of the second beside each."""
    best = task.worth(spans)
    moved = True
    while moved:
        moved = False
        for first, second in itertools.permutations(range(len(spans)), 2):
            strength = task.strength(spans)
            task.add(strength, first, spans[first], -1.0)
            task.add(strength, second, spans[second], -1.0)
            strength = np.maximum(strength, 0.0)
            for span in _spans(task.nodes[first], strength, task.hoped, TRIED):
                beside = strength.copy()
                task.add(beside, first, span)
                other = choose(task.nodes[second], beside, task.hoped)
                task.add(beside, second, other)
                found = task.value(beside)
                if found > best:
                    spans = list(spans)
                    spans[first], spans[second], best, moved = span, other, found, True
    return spans
