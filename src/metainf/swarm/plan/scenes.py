"""What happens to a simulated swarm, and what came of it.

What chance decides is drawn before anything is played, and hangs on nothing that a placement does: runs of
several rules see the same nodes come and go, the same requests, and clients who know the same nodes. What
differs between them is then the rules' own doing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from metainf.swarm.plan.routing import Costs
from metainf.swarm.plan.table import Floats, Ints
from metainf.swarm.words import Demand

RETURN_S = 5.0
"""Mean seconds until another node joins in the place of one that left."""


@dataclass(frozen=True)
class Scene:
    """What happens. Rates are per second; a left node stays listed for `listed_s`, like one whose word has
    not expired; a client sees `view` nodes at random. After `seconds` nobody asks any more, and what was
    begun is finished."""

    num_blocks: int
    seconds: float = 300.0
    requests_per_s: float = 10.0
    mean_life_s: float = 1800.0
    listed_s: float = 15.0
    detect_ms: float = 1000.0
    view: int = 300
    attempts: int = 5
    costs: Costs = field(default_factory=Costs)


@dataclass(frozen=True)
class Fate:
    """What chance decides. One row a node, in the order in which they join."""

    seed: int
    lives_s: Floats
    returns_s: Floats
    """After this node has left, the next one joins so much later."""
    asks: tuple[tuple[float, Demand], ...]
    """When somebody asks, and for what."""

    def known(self, which: int, turn: int, listed: Ints, most: int) -> Ints:
        """Who of the listed nodes are known to the client of a request at its `turn`-th look: those that come
        first in an order of all nodes, so that one more or less changes one place."""
        order = np.random.default_rng([self.seed, 1, which, turn]).random(len(self.lives_s))
        if len(listed) <= most:
            return listed
        return listed[np.argpartition(order[listed], most)[:most]]

    def home(self, which: int) -> int:
        """Beside which node the client of a request lives."""
        return int(np.random.default_rng([self.seed, 2, which]).integers(len(self.lives_s)))

    def dice(self, row: int) -> np.random.Generator:
        """For a rule that throws dice when this node joins."""
        return np.random.default_rng([self.seed, 3, row])


def fate(scene: Scene, nodes: int, seed: int) -> Fate:
    """Draw all of it."""
    rng = np.random.default_rng([seed, 0])
    lives = rng.exponential(scene.mean_life_s, nodes)
    returns = rng.exponential(RETURN_S, nodes)
    return Fate(seed, lives, returns, tuple(_asks(scene, rng)))


def _asks(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[float, Demand]]:
    now = float(rng.exponential(1 / scene.requests_per_s))
    while now <= scene.seconds:
        yield (
            now,
            Demand(
                prompt_tokens=int(np.clip(rng.lognormal(5.5, 0.8), 8, 4000)),
                new_tokens=int(np.clip(rng.lognormal(4.5, 0.7), 8, 1000)),
            ),
        )
        now += float(rng.exponential(1 / scene.requests_per_s))


@dataclass(frozen=True)
class Told:
    """What came of it. Latencies in seconds for the whole request, speeds in tokens a second."""

    asked: int
    finished: int
    failed: int
    reroutes: int
    tokens_per_s: float
    """All tokens that were made while somebody asked, of finished requests and of others."""
    latency_mean_s: float
    latency_p50_s: float
    latency_p95_s: float
    session_tokens_per_s: float
    stages: float
    weakest_requests_per_s: float
    fullest: float
    """The largest load that a node had; 1 is all that it can do."""
