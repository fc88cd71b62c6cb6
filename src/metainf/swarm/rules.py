"""Other ways to place a node, to be compared with: petals' rule, parallax's rule and chance.

Written from their published descriptions. Both take as many blocks as fit the memory.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from metainf.swarm.placement import Floats, choose, strengths
from metainf.swarm.words import Capacity, Held, Span

BISECTIONS = 40


class Placing(Protocol):
    """Where a new node goes beside those that are there. `rng` is for rules that throw dice."""

    def __call__(
        self, node: Capacity, held: Sequence[Held], num_blocks: int, rng: np.random.Generator
    ) -> Span: ...


def ours(node: Capacity, held: Sequence[Held], num_blocks: int, rng: np.random.Generator) -> Span:
    """Start and length by what the weakest block gains."""
    return choose(node, strengths(held, num_blocks))


def petals(node: Capacity, held: Sequence[Held], num_blocks: int, rng: np.random.Generator) -> Span:
    """As many blocks as fit, where the sorted throughputs of the window are the least, in order."""
    length = min(node.memory_blocks, num_blocks)
    strength = strengths(held, num_blocks)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(strength, length), axis=1)
    start = int(np.lexsort(windows.T[::-1])[0])
    return Span(start=start, end=start + length)


def random(node: Capacity, held: Sequence[Held], num_blocks: int, rng: np.random.Generator) -> Span:
    """As many blocks as fit, anywhere."""
    length = min(node.memory_blocks, num_blocks)
    start = int(rng.integers(0, num_blocks - length + 1))
    return Span(start=start, end=start + length)


def parallax(node: Capacity, held: Sequence[Held], num_blocks: int, rng: np.random.Generator) -> Span:
    """A node that comes later joins where the blocks hold the least memory; the plan itself is `pipelines`.

    The description balances whole pipelines and lets a late node take the lightest stretch of layers.
    """
    length = min(node.memory_blocks, num_blocks)
    depth = np.zeros(num_blocks)
    for each in held:
        depth[each.span.start : each.span.end] += 1
    loads = np.lib.stride_tricks.sliding_window_view(depth, length).sum(axis=1)
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
