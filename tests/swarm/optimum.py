"""The best arrangement there is, by trying all: what placement is held against."""

from collections.abc import Sequence

import numpy as np

from metainf.swarm.words import Capacity


def by_brute_force(nodes: Sequence[Capacity], blocks: int) -> float:
    """Requests a second of the best of all arrangements. Every pair of start and length of every node."""
    total = np.zeros((1, blocks))
    for node in nodes:
        shares = []
        for start in range(blocks):
            for end in range(start + 1, min(blocks, start + node.memory_blocks) + 1):
                share = np.zeros(blocks)
                share[start:end] = node.blocks_per_s / (end - start)
                shares.append(share)
        total = (total[:, None] + np.array(shares)[None]).reshape(-1, blocks)
    return float(total.min(axis=1).max())
