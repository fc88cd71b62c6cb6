"""A swarm of unlike nodes under a trace, in discrete events: what each way to choose makes of it.

Forecasts are wrong by what is drawn once for each kind, method and node, and nobody but the oracle knows it.
Money is spent while a node works. Simplified, and said so: see `node`.
"""

import heapq
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from metainf.swarm.schedule.caching import Prefixes
from metainf.swarm.schedule.node import Node, Sequence
from metainf.swarm.schedule.words import Ask, Floats, Ints, Outcome, Rates, Swarm

HOUR_S = 3600.0


@dataclass(frozen=True)
class Coming:
    """A request of a trace: when it comes, what is asked, how many tokens it truly makes."""

    at_s: float
    ask: Ask
    output_tokens: int


@dataclass(frozen=True)
class Slowed:
    """From an instant on a node takes `times` as long as before."""

    node: int
    at_s: float
    times: float


@dataclass(frozen=True)
class Scene:
    """The nodes and the truth. `off_prefill`, `off_step` [node, method] are logs of truth over forecast."""

    rates: Rates
    kind: Ints
    usd_per_hour: Floats
    off_prefill: Floats
    off_step: Floats
    slowed: tuple[Slowed, ...] = ()
    switch_s: float = 30.0
    every_s: float = 60.0

    def swarm(self, method: int | Ints) -> Swarm:
        """The state at the beginning: everybody runs the same method, or each its own."""
        count = len(self.kind)
        return Swarm(
            kind=self.kind,
            method=np.full(count, method),
            usd_per_s=self.usd_per_hour / HOUR_S,
            reputation=np.ones(count),
            labels=tuple(frozenset() for _ in range(count)),
        )


class Policy(Protocol):
    """A way to choose nodes, and from time to time methods."""

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int: ...

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool) -> None: ...

    def methods(self, swarm: Swarm, now_s: float) -> Ints: ...


@dataclass
class Told:
    """What came of it: requests within their limits, dollars, switches; the chosen node of each request."""

    asked: int = 0
    good: int = 0
    usd: float = 0.0
    ttft_p95_s: float = 0.0
    tpot_p95_s: float = 0.0
    switches: int = 0
    seconds: float = 0.0
    chosen: list[int] = field(default_factory=list)

    @property
    def good_per_usd(self) -> float:
        return self.good / self.usd if self.usd else 0.0


class Simulation:
    """One run of one policy."""

    def __init__(self, scene: Scene, policy: Policy, method: int | Ints) -> None:
        self.scene, self.policy = scene, policy
        self.swarm = scene.swarm(method)
        self.nodes = [Node(0.0, 0.0, 1) for _ in scene.kind]
        self.slow = np.ones(len(scene.kind))
        self.prefixes = Prefixes([0] * len(scene.kind))
        for node, first in enumerate(self.swarm.method.tolist()):
            self._settle(node, first)
        self.sent: dict[int, tuple[Coming, int, int, float]] = {}
        self.told, self.ttft, self.tpot = Told(), [], []  # type: ignore[var-annotated]
        self.events: list[tuple[float, int]] = []
        self.due: list[float | None] = [None] * len(scene.kind)

    def run(self, trace: Listed[Coming]) -> Told:
        """All requests, until the last is done."""
        slowed = sorted(self.scene.slowed, key=lambda each: each.at_s)
        next_methods_s = self.scene.every_s
        for number, coming in enumerate(trace):
            self._until(coming.at_s)
            while slowed and slowed[0].at_s <= coming.at_s:
                change = slowed.pop(0)
                self.slow[change.node] *= change.times
                self._speeds(change.node)
            if coming.at_s >= next_methods_s:
                next_methods_s = coming.at_s + self.scene.every_s
                self._methods(coming.at_s)
            self._send(number, coming)
        self._until(float("inf"))
        return self._summed(trace)

    def _send(self, number: int, coming: Coming) -> None:
        swarm, ask, now_s = self.swarm, coming.ask, coming.at_s
        cached = np.minimum(self.prefixes.tokens(ask.blocks), ask.input_tokens - 1.0)
        node = self.policy.node(swarm, ask, cached, now_s)
        forecast = float(self.scene.rates.prefill_s_per_token[swarm.kind[node], swarm.method[node]])
        off = float(self.scene.off_prefill[node, swarm.method[node]])
        tokens = ask.input_tokens - float(cached[node])
        work_s = tokens * forecast * np.exp(off) * self.slow[node]
        self.nodes[node].advance(now_s)
        sequence = Sequence(number, float(work_s), float(coming.output_tokens), now_s, tokens)
        self.nodes[node].add(sequence)
        self.sent[number] = (coming, node, int(swarm.method[node]), tokens)
        self.prefixes.sent(node, ask.blocks)
        self.told.chosen.append(node)
        self._watch(node)
        self._state(node)

    def _until(self, now_s: float) -> None:
        while self.events and self.events[0][0] <= now_s:
            at_s, node = heapq.heappop(self.events)
            if self.due[node] != at_s:
                continue  # something happened there meanwhile
            self.due[node] = None
            for ended in self.nodes[node].advance(at_s):
                self._ended(node, ended, at_s)
            self._watch(node)
            self._state(node)

    def _watch(self, node: int) -> None:
        at_s = self.nodes[node].next_s()
        if at_s != self.due[node]:
            self.due[node] = at_s
            if at_s is not None:
                heapq.heappush(self.events, (at_s, node))

    def _state(self, node: int) -> None:
        """What the scheduler is told: counts, not speeds."""
        here, swarm = self.nodes[node], self.swarm
        swarm.running[node] = len(here.running)
        tokens = here.waiting_tokens
        if here.prefilling is not None:
            tokens += here.prefilling.tokens * here.left_s / max(here.prefilling.prefill_s, 1e-12)
        swarm.waiting_tokens[node] = tokens
        swarm.running[node] += here.load - len(here.running)

    def _ended(self, node: int, ended: Sequence, now_s: float) -> None:
        coming, _, method, tokens = self.sent.pop(ended.number)
        ttft = ended.first_s - ended.asked_s
        tpot = (now_s - ended.first_s) / max(1.0, ended.output_tokens - 1)
        good = ttft <= coming.ask.max_ttft_s and tpot <= coming.ask.max_tpot_s
        self.told.good += good
        self.ttft.append(ttft)
        self.tpot.append(tpot)
        rates, kind = self.scene.rates, self.swarm.kind[node]
        decoding_s = max(now_s - ended.first_s - ended.held_s, 1e-9)
        beside = max(1.0, ended.beside_s / decoding_s)
        step = float(rates.step_s[kind, method] + beside * rates.step_per_sequence_s[kind, method])
        step_s = decoding_s / max(1.0, ended.output_tokens - 1)
        prefill = tokens * float(rates.prefill_s_per_token[kind, method])
        seen = Outcome(node, method, (ended.first_s - ended.begun_s) / prefill, step_s / step)
        self.policy.learn(self.swarm, seen, good)

    def _methods(self, now_s: float) -> None:
        wanted = self.policy.methods(self.swarm, now_s)
        for node in np.flatnonzero(wanted != self.swarm.method):
            if self.nodes[node].load:
                continue  # it is asked again when it is idle
            self.told.switches += 1
            self.nodes[node].closed_until_s = now_s + self.scene.switch_s
            self.swarm.open_from_s[node] = now_s + self.scene.switch_s
            self.told.usd += self.swarm.usd_per_s[node] * self.scene.switch_s
            self._settle(int(node), int(wanted[node]))

    def _settle(self, node: int, method: int) -> None:
        self.swarm.method[node] = method
        rates, kind = self.scene.rates, self.scene.kind[node]
        self.nodes[node].most_sequences = int(rates.most_sequences[kind, method])
        self.prefixes.emptied(node, int(rates.cached_blocks[kind, method]))
        self._speeds(node)

    def _speeds(self, node: int) -> None:
        method, kind = self.swarm.method[node], self.scene.kind[node]
        times = float(np.exp(self.scene.off_step[node, method]) * self.slow[node])
        self.nodes[node].step_s = float(self.scene.rates.step_s[kind, method]) * times
        self.nodes[node].per_sequence_s = float(self.scene.rates.step_per_sequence_s[kind, method]) * times

    def _summed(self, trace: Listed[Coming]) -> Told:
        told = self.told
        told.asked = len(trace)
        told.usd += sum(node.busy_s * usd for node, usd in zip(self.nodes, self.swarm.usd_per_s, strict=True))
        if self.ttft:
            told.ttft_p95_s = float(np.percentile(self.ttft, 95))
            told.tpot_p95_s = float(np.percentile(self.tpot, 95))
        told.seconds = max((node.now_s for node in self.nodes if np.isfinite(node.now_s)), default=0.0)
        return told
