"""Halves of real traces as requests of the simulated swarm, and as the traffic expected of the next."""

from pathlib import Path

import numpy as np

from metainf.importers.traces import trace_rows
from metainf.swarm.schedule.planning import BURST_S, Flow
from metainf.swarm.schedule.simulating import Coming
from metainf.swarm.schedule.words import Ask

TTFT_S, TOKENS_PER_S, TPOT_S = 1.0, 4000.0, 0.05


def coming(path: Path, count: int, faster: float, half: int = 1) -> list[Coming]:
    """The first requests of a half (0, 1) of a trace; limits follow the length of the prompt. The mean length
    of answers is that of the half before, or of the first hundred."""
    whole = trace_rows(path)
    begins = half * len(whole) // 2
    before = whole[:begins] or whole[:100]
    rows = whole[begins : begins + count]
    mean = float(np.mean([row.output_tokens or 1.0 for row in before]))
    start_s = rows[0].at_s or 0.0
    made = []
    for row in rows:
        tokens = max(1, int(row.input_tokens or 1))
        limit_s = TTFT_S + tokens / TOKENS_PER_S
        blocks = tuple(int(block) for block in row.blocks or ())
        asked = Ask(tokens, mean, max_ttft_s=limit_s, max_tpot_s=TPOT_S, blocks=blocks)
        made.append(
            Coming(((row.at_s or 0.0) - start_s) * faster, asked, max(1, int(row.output_tokens or 1)))
        )
    return made


def usual(path: Path, faster: float, half: int = 1) -> Flow:
    """The traffic of the half before (for the first half: of the second), as means over all of it."""
    whole = trace_rows(path)
    rows = whole[: len(whole) // 2] if half else whole[len(whole) // 2 :]
    at_s = np.array([row.at_s or 0.0 for row in rows]) * faster
    tokens = np.array([[row.input_tokens or 1.0, row.output_tokens or 1.0] for row in rows]).mean(axis=0)
    near, seen = 0.0, 0.0
    for gap_s in np.diff(at_s, prepend=at_s[0]):
        near *= float(np.exp(-gap_s / BURST_S))
        seen, near = seen + near, near + 1 / BURST_S
    return Flow(
        rate_per_s=(len(rows) - 1) / float(at_s[-1] - at_s[0]),
        input_tokens=float(tokens[0]),
        output_tokens=float(tokens[1]),
        max_ttft_s=TTFT_S + float(tokens[0]) / TOKENS_PER_S,
        max_tpot_s=TPOT_S,
        burst_per_s=seen / len(rows),
    )
