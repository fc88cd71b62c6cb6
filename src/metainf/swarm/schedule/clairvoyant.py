"""Greedy with the truth: for each node it plays what would come of a request there, if nothing else came.

It knows true speeds, true lengths, and what the request does to those who run. It does not know who comes
next.
"""

import copy
from collections import deque
from collections.abc import Sequence as Listed

import numpy as np

from metainf.swarm.schedule.node import Node, Sequence
from metainf.swarm.schedule.simulating import Coming, Simulation
from metainf.swarm.schedule.words import Ask, Floats, Ints, Outcome, Swarm

FOLLOWS = 0.02
LEAST_GOOD = 0.05
NEW = -1


class Clairvoyant:
    """A policy that looks into the simulation it belongs to; `watch` it before it runs."""

    def __init__(self, trace: Listed[Coming], worth: float) -> None:
        self.trace, self.worth, self.good, self.usd = trace, worth, 1.0, 1.0 / worth
        self.simulation: Simulation | None = None
        self.number = 0

    def watch(self, simulation: Simulation) -> Simulation:
        self.simulation = simulation
        return simulation

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        assert self.simulation is not None
        coming, scene = self.trace[self.number], self.simulation.scene
        self.number += 1
        at = (swarm.kind, swarm.method)
        rows = np.arange(len(swarm))
        truth = np.exp(scene.off_prefill[rows, swarm.method]) * self.simulation.slow
        work_s = (ask.input_tokens - cached) * scene.rates.prefill_s_per_token[at] * truth
        found = []
        for row in rows.tolist():
            new = Sequence(NEW, float(work_s[row]), float(coming.output_tokens), now_s)
            before, after = self._played(row, now_s, None, ask), self._played(row, now_s, new, ask)
            gain, usd = after[0] - before[0], (after[1] - before[1]) * float(swarm.usd_per_s[row])
            found.append((gain - self.worth * usd, -row, gain, usd))
        _, row, gain, usd = max(found)
        self.good += FOLLOWS * (gain - self.good)
        self.usd += FOLLOWS * (usd - self.usd)
        self.worth = max(self.good, LEAST_GOOD) / max(self.usd, 1e-12)
        return -row

    def _played(self, row: int, now_s: float, new: Sequence | None, ask: Ask) -> tuple[int, float]:
        """Requests that meet their limits, and seconds of work, until the node is idle."""
        assert self.simulation is not None
        node = _clone(self.simulation.nodes[row])
        node.advance(now_s)
        begun_s, good = node.busy_s, 0
        if new is not None:
            node.add(new)
        while (at_s := node.next_s()) is not None:
            for ended in node.advance(at_s):
                limits = ask if ended.number == NEW else self.simulation.sent[ended.number][0].ask
                tpot = (at_s - ended.first_s) / max(1.0, ended.output_tokens - 1)
                good += ended.first_s - ended.asked_s <= limits.max_ttft_s and tpot <= limits.max_tpot_s
        return good, node.busy_s - begun_s

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool, usd: float) -> None:
        """It knows."""

    def methods(self, swarm: Swarm, lately: Listed[tuple[int, Ask]], now_s: float) -> Ints:
        return swarm.method.copy()


def _clone(node: Node) -> Node:
    same = copy.copy(node)
    same.waiting = deque(copy.copy(each) for each in node.waiting)
    same.running = [(at, number, copy.copy(each)) for at, number, each in node.running]
    same.prefilling = copy.copy(node.prefilling)
    return same
