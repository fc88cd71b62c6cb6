"""Other ways to place a node, to be compared with: petals' rule, parallax's rule and chance.

Written from their published descriptions. Both take as many blocks as fit the memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from metainf.swarm.plan.placement import Floats, choose
from metainf.swarm.words import Capacity, Held, Span

BISECTIONS = 40


@dataclass
class Picture:
    """What a new node sees of the others: for each block its strength (requests a second) and its holders."""

    strength: Floats
    holders: Floats

    @classmethod
    def of(cls, held: Iterable[Held], num_blocks: int) -> "Picture":
        made = cls(np.zeros(num_blocks), np.zeros(num_blocks))
        for each in held:
            made.add(each.capacity, each.span)
        return made

    def add(self, node: Capacity, span: Span, sign: int = 1) -> None:
        """Count a node in, or with -1 out."""
        self.strength[span.start : span.end] += sign * node.blocks_per_s / len(span)
        self.holders[span.start : span.end] += sign
        np.maximum(self.strength, 0.0, out=self.strength)


class Placing(Protocol):
    """Where a new node goes beside those that are there. `rng` is for rules that throw dice."""

    def __call__(self, node: Capacity, picture: Picture, rng: np.random.Generator) -> Span: ...


def ours(node: Capacity, picture: Picture, rng: np.random.Generator) -> Span:
    """Start and length by what the weakest block gains."""
    return choose(node, picture.strength)


def petals(node: Capacity, picture: Picture, rng: np.random.Generator) -> Span:
    """As many blocks as fit, where the sorted throughputs of the window are the least, in order."""
    length = min(node.memory_blocks, len(picture.strength))
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(picture.strength, length), axis=1)
    start = int(np.lexsort(windows.T[::-1])[0])
    return Span(start=start, end=start + length)


def random(node: Capacity, picture: Picture, rng: np.random.Generator) -> Span:
    """As many blocks as fit, anywhere."""
    length = min(node.memory_blocks, len(picture.strength))
    start = int(rng.integers(0, len(picture.strength) - length + 1))
    return Span(start=start, end=start + length)


def parallax(node: Capacity, picture: Picture, rng: np.random.Generator) -> Span:
    """A node that comes late takes as many blocks as fit where fewest nodes hold them.

    The plan for a whole swarm is `pipelines`; this is for those who join afterwards.
    """
    length = min(node.memory_blocks, len(picture.holders))
    loads = np.lib.stride_tricks.sliding_window_view(picture.holders, length).sum(axis=1)
    start = int(loads.argmin())
    return Span(start=start, end=start + length)


def pipelines(nodes: Sequence[Capacity], num_blocks: int) -> list[Held]:
    """Parallax's plan for a whole swarm: as many full pipelines as memory allows, filled like water.

    Nodes are dealt greedily, the largest first, until a pipeline's memory holds the model; its blocks are
    then divided by speed. Nodes left over stay without blocks.
    """
    held: list[Held] = []
    waiting = sorted(nodes, key=lambda node: (-node.memory_blocks, -node.blocks_per_s, node.node))
    crew: list[Capacity] = []
    for node in waiting:
        crew.append(node)
        if sum(each.memory_blocks for each in crew) >= num_blocks:
            held += _divided(crew, num_blocks)
            crew = []
    return held


def water_filled(speeds: Floats, most: Floats, total: int) -> list[int]:
    """Whole shares of `total`, as near to the speeds as the upper bounds allow: the level at which the sum of
    min(most, level * speed) is the total, by bisection, then floors and the largest remainders."""
    low, high = 0.0, float((most / speeds).max())
    for _ in range(BISECTIONS):
        level = (low + high) / 2
        if np.minimum(most, level * speeds).sum() < total:
            low = level
        else:
            high = level
    shares = np.minimum(most, high * speeds)
    whole = np.floor(shares + 1e-9)
    for index in np.argsort(-(shares - whole), kind="stable"):
        if whole.sum() < total and whole[index] < most[index]:
            whole[index] += 1
    for index in np.argsort(-speeds, kind="stable"):
        room = min(most[index] - whole[index], total - whole.sum())
        whole[index] += max(0.0, room)
    return [int(each) for each in whole]


def _divided(crew: Sequence[Capacity], num_blocks: int) -> list[Held]:
    speeds = np.array([node.blocks_per_s for node in crew])
    most = np.array([min(node.memory_blocks, num_blocks) for node in crew], dtype=float)
    held, at = [], 0
    for node, count in zip(crew, water_filled(speeds, most, num_blocks), strict=True):
        if count:
            held.append(Held(capacity=node, span=Span(start=at, end=at + count)))
            at += count
    return held


PLACINGS: dict[str, Placing] = {"ours": ours, "petals": petals, "parallax": parallax, "random": random}
