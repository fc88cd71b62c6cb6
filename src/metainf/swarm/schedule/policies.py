"""Ways to choose: MetaInf's own, one that knows the truth, and what others do."""

import hashlib
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field

import numpy as np

from metainf.swarm.schedule.deciding import choose, prospects, switch
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.words import Ask, Floats, Ints, Outcome, Rates, Swarm

SWITCH_S, HORIZON_S, WINDOW_S = 30.0, 900.0, 300.0
"""A change of method closes a node for so long; it must pay within the second, at the traffic of the
third."""
FOLLOWS = 0.02
BOUND = 1.25
"""Affinity is given up where a node has more than this share of the mean load."""


@dataclass
class Ours:
    """Forecasts, corrected by what is seen, under limits and dollars. `explores` draws what is not known."""

    rates: Rates
    learned: Learned
    rng: np.random.Generator
    worth: float
    explores: bool = True
    switches: bool = True
    good: float = 1.0
    usd: float = field(init=False)

    def __post_init__(self) -> None:
        self.usd = self.good / self.worth

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        chance = self.rng.standard_normal((2, len(swarm))) if self.explores else None
        made = choose(swarm, self.rates, self.learned, (ask, cached, now_s), self.worth, chance)
        swarm.sent(made.node, made.work_s, now_s)
        if not made.fallback:
            self.good += FOLLOWS * (made.p_meets - self.good)
            self.usd += FOLLOWS * (made.usd - self.usd)
            self.worth = self.good / max(self.usd, 1e-12)
        return made.node

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool, usd: float) -> None:
        self.learned.saw(swarm, outcome)

    def methods(self, swarm: Swarm, lately: Listed[tuple[int, Ask]], now_s: float) -> Ints:
        wanted = swarm.method.copy()
        if self.switches and lately:
            hopes = prospects(swarm, self.rates, self.learned, [ask for _, ask in lately])
            rate_per_s = len(lately) / WINDOW_S
            found = switch(swarm, hopes, (rate_per_s, self.worth), SWITCH_S, HORIZON_S)
            if found is not None:
                wanted[found[0]] = found[1]
        return wanted


@dataclass
class Fixed:
    """What others do, with the method that the swarm runs from the start: `how` is one of HOW."""

    how: str
    weights: Floats
    rng: np.random.Generator
    turn: int = 0

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        if self.how == "static":
            return int(self.rng.choice(len(swarm), p=self.weights))
        if self.how == "least loaded":
            return int((swarm.running / self.weights).argmin())
        self.turn += 1
        if not ask.blocks:
            return (self.turn - 1) % len(swarm)
        first = hashlib.blake2b(str(ask.blocks[0]).encode(), digest_size=8).digest()
        home = int.from_bytes(first, "big") % len(swarm)
        most = BOUND * (swarm.running.mean() + 1)
        for step in range(len(swarm)):
            node = (home + step) % len(swarm)
            if swarm.running[node] <= most:
                return node
        return home

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool, usd: float) -> None:
        """It learns nothing."""

    def methods(self, swarm: Swarm, lately: Listed[tuple[int, Ask]], now_s: float) -> Ints:
        return swarm.method.copy()


HOW = ("static", "least loaded", "round robin with affinity")
