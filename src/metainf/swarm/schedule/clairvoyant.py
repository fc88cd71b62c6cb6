"""What could be had with the truth: MetaInf's own way with true speeds and true lengths. It does not know who
comes next.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field, replace

import numpy as np

from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.policies import Ours
from metainf.swarm.schedule.simulating import Coming, Scene
from metainf.swarm.schedule.words import Ask, Floats, Ints, Swarm


class Truth(Learned):
    """True speeds in the place of what was learnt."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(len(scene.kind), *scene.rates.step_s.shape)
        self.off = scene.off_prefill, scene.off_step

    def shift(self, swarm: Swarm, what: int, method: Ints | None = None) -> tuple[Floats, Floats]:
        found = self.off[what][np.arange(len(swarm)), swarm.method if method is None else method]
        return found, np.zeros(len(swarm))

    def doubt(self, swarm: Swarm, what: int, method: Ints) -> Floats:
        return np.zeros(len(swarm))


@dataclass
class Knowing(Ours):
    """MetaInf's way with true lengths, `lengths` in order of the requests."""

    lengths: Iterator[int] = field(default_factory=lambda: iter(()))

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        return super().node(swarm, replace(ask, output_tokens=float(next(self.lengths))), cached, now_s)


def knowing(scene: Scene, trace: Listed[Coming], worth: float) -> Knowing:
    """The way of MetaInf with the truth."""
    lengths = iter([each.output_tokens for each in trace])
    still = np.random.default_rng(0)
    return Knowing(scene.rates, Truth(scene), still, worth, explores=False, switches=False, lengths=lengths)
