"""The best arrangement of a small swarm, by integer programming (HiGHS, which comes with SciPy)."""

from collections.abc import Sequence

import numpy as np

from metainf.swarm.words import Capacity, Span

BRANCHES = 2_000
"""Where the search gives up; a limit of work, not of time, so that the answer is always the same."""


def spans_of(node: Capacity, num_blocks: int) -> list[Span]:
    """Every span that fits the node."""
    widest = min(node.memory_blocks, num_blocks)
    return [
        Span(start=start, end=start + length)
        for length in range(1, widest + 1)
        for start in range(num_blocks - length + 1)
    ]


def better(nodes: Sequence[Capacity], num_blocks: int, above: float) -> list[Span] | None:
    """Spans of the largest throughput, None where nothing above `above` (requests a second) was found.

    One binary variable for each node and span, and the throughput as the last variable: every block must be
    at least that strong, every node takes one span.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    options = [(index, span) for index, node in enumerate(nodes) for span in spans_of(node, num_blocks)]
    strong = np.zeros((num_blocks, len(options) + 1))
    once = np.zeros((len(nodes), len(options) + 1))
    for column, (index, span) in enumerate(options):
        strong[span.start : span.end, column] = nodes[index].blocks_per_s / len(span)
        once[index, column] = 1.0
    strong[:, -1] = -1.0
    goal = np.zeros(len(options) + 1)
    goal[-1] = -1.0
    found = milp(
        goal,
        constraints=[LinearConstraint(strong, lb=0.0), LinearConstraint(once, lb=1.0, ub=1.0)],
        integrality=np.append(np.ones(len(options)), 0.0),
        bounds=Bounds(np.append(np.zeros(len(options)), above), np.append(np.ones(len(options)), np.inf)),
        options={"node_limit": BRANCHES, "mip_rel_gap": 1e-3},
    )
    if found.x is None:
        return None
    taken = found.x[:-1] > 0.5
    return [span for (_, span), chosen in zip(options, taken, strict=True) if chosen]
