"""Ways to choose: MetaInf's own, one that knows the truth, and what others do."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from metainf.swarm.schedule.deciding import choose
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.planning import Following, planned, switch
from metainf.swarm.schedule.words import Ask, Choice, Floats, Ints, Outcome, Rates, Swarm

SWITCH_S, HORIZON_S = 30.0, 900.0
"""A change of method closes a node for so long; it must pay within the second, or
within the time for which there has been traffic: what has lasted so long may last as long again."""
PLANS_S = 2.0
FOLLOWS, BELIEVED = 0.005, 200.0
"""How fast older requests are forgotten for what a dollar buys, and as how many the start counts."""
THRIFT = 0.15
"""Of what a dollar buys, what counts against a single request's limits. The plan already saves; with all of
it the cheapest is to let a third of the requests miss their limits."""
BOUND = 1.25
"""Affinity is given up where a node has more than this share of the mean load."""


@dataclass
class Ours:
    """Forecasts, corrected by what is seen, under limits and dollars. `explores` draws what is not known.

    `worth` is what a dollar buys at the start; it follows what truly comes of the dollars that are spent.
    """

    rates: Rates
    learned: Learned
    rng: np.random.Generator
    worth: float
    explores: bool = True
    switches: bool = True
    plans: bool = True
    following: Following = field(default_factory=Following)
    load: Floats | None = None
    good: float = BELIEVED
    usd: float = field(init=False)
    last_s: float = 0.0
    replan_s: float = 0.0

    def __post_init__(self) -> None:
        self.usd = self.good / self.worth

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        return self.decide(swarm, ask, cached, now_s).node

    def decide(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> Choice:
        """The node, and what is expected of it. Raises as `choose` does."""
        self.following.came(ask, float(cached.max()), now_s)
        if self.plans and now_s >= self.replan_s and (flow := self.following.flow()) is not None:
            self.load = planned(swarm, self.rates, self.learned, flow).load
            self.replan_s = now_s + PLANS_S
        chance = self.rng.standard_normal((2, len(swarm))) if self.explores else None
        worth = THRIFT * self.worth
        made = choose(swarm, self.rates, self.learned, (ask, cached, now_s), worth, chance, self.load)
        swarm.sent(made.node, made.work_s, now_s)
        spent = (now_s - self.last_s) * float(swarm.usd_per_s[swarm.running > 0].sum())
        self.usd, self.good, self.last_s = (
            (1 - FOLLOWS) * (self.usd + spent),
            (1 - FOLLOWS) * self.good,
            now_s,
        )
        self.worth = self.good / max(self.usd, 1e-12)
        return made

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool) -> None:
        self.learned.saw(swarm, outcome)
        self.good += good

    def methods(self, swarm: Swarm, now_s: float) -> Ints:
        wanted, flow = swarm.method.copy(), self.following.flow()
        if self.switches and flow is not None:
            horizon_s = min(HORIZON_S, now_s - (self.following.begun_s or 0.0))
            found = switch(swarm, self.rates, self.learned, flow, (SWITCH_S, horizon_s))
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

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool) -> None:
        """It learns nothing."""

    def methods(self, swarm: Swarm, now_s: float) -> Ints:
        return swarm.method.copy()


HOW = ("static", "least loaded", "round robin with affinity")
