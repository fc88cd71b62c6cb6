"""Which prefixes each node still holds, as far as can be told from what was sent there: the least recently
used go first. Pure."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from metainf.swarm.schedule.words import BLOCK_TOKENS, Floats


class Prefixes:
    """Blocks of prompts by node, each of `block_tokens`. `room[i]` blocks fit on node i."""

    def __init__(self, room: Sequence[int], block_tokens: int = BLOCK_TOKENS) -> None:
        self.room, self.block_tokens = list(room), block_tokens
        self.held: list[OrderedDict[int, None]] = [OrderedDict() for _ in self.room]
        self.where: dict[int, set[int]] = {}

    def tokens(self, blocks: Sequence[int]) -> Floats:
        """For each node, how many first tokens of such a prompt it holds."""
        found = np.zeros(len(self.room))
        nodes: set[int] | None = None
        for number, block in enumerate(blocks, 1):
            there = self.where.get(block, set())
            nodes = set(there) if nodes is None else nodes & there
            if not nodes:
                break
            found[list(nodes)] = number * self.block_tokens
        return found

    def more(self, nodes: int) -> None:
        """So many nodes more, without room."""
        self.room += [0] * nodes
        self.held += [OrderedDict() for _ in range(nodes)]

    def sent(self, node: int, blocks: Sequence[int]) -> None:
        """A prompt went to a node, which keeps it as long as it has room."""
        held = self.held[node]
        for block in blocks:
            if block in held:
                held.move_to_end(block)
            elif self.room[node]:
                held[block] = None
                self.where.setdefault(block, set()).add(node)
        while len(held) > self.room[node]:
            self._drop(node, held.popitem(last=False)[0])

    def emptied(self, node: int, room: int) -> None:
        """A node lost what it held (it restarted, or changed its method) and has other room now."""
        for block in self.held[node]:
            self._drop(node, block)
        self.held[node], self.room[node] = OrderedDict(), room

    def _drop(self, node: int, block: int) -> None:
        nodes = self.where[block]
        nodes.discard(node)
        if not nodes:
            del self.where[block]
