"""What outcomes teach: by how much each node, and each kind of node, is slower than forecast. Pure.

A contextual bandit on the residual of the forecast. A node's residual is drawn towards that of its kind with
the same method, that towards none. A node that suddenly differs is believed quickly: after three surprises on
one side what was known of it is let go.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from metainf.swarm.schedule.words import Floats, Ints, Outcome, Swarm

FADES = 0.92
"""What an older outcome counts beside the next of the same node."""
NOISE = 0.25
"""Scale of the log of one outcome around the node's mean."""
OWN, KIND = 0.3, 0.5
"""Scales of the log by which nodes of a kind differ, and kinds from the forecast, a priori."""
ALIKE = 0.5
"""The part of the variance of a kind's error that all its methods share: a kind that is slow with one is
likely to be slow with the others."""
APART = KIND**2 * (1 - ALIKE)
SURPRISE, SURPRISES = 3.0, 3
FAILS = 0.9
"""What an older failure or success counts beside the next."""


@dataclass
class _Means:
    """Fading means of logs, and how much they weigh."""

    mean: Floats
    weight: Floats

    def into(self, other: "_Means") -> None:
        """Copy to the beginning of larger arrays."""
        part = tuple(slice(0, length) for length in self.mean.shape)
        other.mean[part], other.weight[part] = self.mean, self.weight

    def add(self, at: int | tuple[int, int], log: float, fades: float) -> None:
        left = self.weight[at] * fades
        self.mean[at] = (left * self.mean[at] + log) / (left + 1)
        self.weight[at] = left + 1


@dataclass
class Learned:
    """Residuals of prefill and of decode steps for `count` nodes of `kinds` kinds with `methods` methods."""

    count: int
    kinds: int
    methods: int
    own: list[_Means] = field(init=False)
    kind: list[_Means] = field(init=False)
    surprises: Floats = field(init=False)
    failing: Floats = field(init=False)
    kept: dict[int, tuple[Floats, Floats]] = field(init=False, default_factory=dict, repr=False)
    """What follows for kinds from all of this, until something is learnt."""

    def __post_init__(self) -> None:
        self.own = [_Means(np.zeros(self.count), np.zeros(self.count)) for _ in range(2)]
        shape = (self.kinds, self.methods)
        self.kind = [_Means(np.zeros(shape), np.zeros(shape)) for _ in range(2)]
        self.surprises, self.failing = np.zeros((2, self.count)), np.zeros(self.count)

    def shift(self, swarm: Swarm, what: int, method: Ints | None = None) -> tuple[Floats, Floats]:
        """For prefill (0) or steps (1): what to add to the log of each node's forecast, and how unsure that
        is; with the methods given, were the nodes to run these: what a node showed with another counts
        too."""
        method = swarm.method if method is None else method
        own, (base, unsure) = self.own[what], self._kinds(what)
        trust = own.weight / (own.weight + NOISE**2 / OWN**2)
        shift = base[swarm.kind, method] + trust * own.mean
        return shift, np.sqrt(unsure[swarm.kind, method] + OWN**2 * (1 - trust))

    def doubt(self, swarm: Swarm, what: int, method: Ints) -> Floats:
        """How unsure it is what a change to these methods adds to the logs; 0 where they run already."""
        weight = self.kind[what].weight[swarm.kind, method]
        left: Floats = APART * (1 - weight / (weight + (NOISE**2 + OWN**2) / APART))
        return np.where(method == swarm.method, 0.0, np.sqrt(left))

    def _kinds(self, what: int) -> tuple[Floats, Floats]:
        """[kind, method]: the expected log, and its variance. Normal at three levels: a kind's common error,
        what a method adds to it, and what was seen of the pair."""
        if what in self.kept:
            return self.kept[what]
        whole = self.kind[what]
        trust = whole.weight / (whole.weight + (NOISE**2 + OWN**2) / APART)
        spread = 1 / (1 / (KIND**2 * ALIKE) + trust.sum(axis=1, keepdims=True) / APART)
        common = spread * (trust * whole.mean).sum(axis=1, keepdims=True) / APART
        found = common + trust * (whole.mean - common), APART * (1 - trust) + (1 - trust) ** 2 * spread
        self.kept[what] = found
        return found

    def grown(self, count: int, kinds: int, methods: int) -> "Learned":
        """The same with room for more."""
        larger = Learned(count, kinds, methods)
        for mine, new in zip([*self.own, *self.kind], [*larger.own, *larger.kind], strict=True):
            mine.into(new)
        larger.surprises[:, : self.count], larger.failing[: self.count] = self.surprises, self.failing
        return larger

    def aged(self, seconds: float, fades_s: float) -> None:
        """What was learnt so long ago counts less: a node that is left alone is tried again at last."""
        left = math.exp(-seconds / fades_s)
        self.kept.clear()
        for each in (*self.own, *self.kind):
            each.weight *= left
        self.failing *= left

    def forget(self, node: int, kind: int) -> None:
        """Another node stands in this place, of a kind that nobody else is of."""
        self.surprises[:, node] = self.failing[node] = 0.0
        self.kept.clear()
        for what in range(2):
            self.own[what].weight[node] = 0.0
            self.kind[what].weight[kind] = 0.0

    def forget_method(self, kind: int, method: int) -> None:
        """Another method of that kind stands in this place."""
        self.kept.clear()
        for what in range(2):
            self.kind[what].weight[kind, method] = 0.0

    def saw(self, swarm: Swarm, outcome: Outcome) -> None:
        """Learn from one outcome. Ratios that are no positive numbers are left out."""
        node = outcome.node
        self.failing[node] = FAILS * self.failing[node] + (1 - FAILS) * outcome.failed
        for what, ratio in enumerate((outcome.prefill_ratio, outcome.step_ratio)):
            if ratio is None or not ratio > 0 or not math.isfinite(ratio):
                continue
            log = math.log(ratio)
            at = (int(swarm.kind[node]), outcome.method)
            whole, own = self.kind[what], self.own[what]
            known = float(self._kinds(what)[0][at])
            self._surprised(what, node, log - known)
            own.add(node, log - known, FADES)
            whole.add(at, log, 1 - (1 - FADES) / 8)
            self.kept.pop(what, None)

    def _surprised(self, what: int, node: int, log: float) -> None:
        """Three in a row far on the same side of what is known: the node has changed."""
        own = self.own[what]
        off = log - own.mean[node]
        scale = NOISE if own.weight[node] else math.hypot(NOISE, OWN)
        if abs(off) < SURPRISE * scale:
            self.surprises[what, node] = 0
            return
        so_far = self.surprises[what, node]
        self.surprises[what, node] = (
            so_far + math.copysign(1, off) if so_far * off >= 0 else math.copysign(1, off)
        )
        if abs(self.surprises[what, node]) >= SURPRISES:
            own.weight[node], self.surprises[what, node] = 0.0, 0.0
