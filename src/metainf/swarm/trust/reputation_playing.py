"""A swarm with liars, played in discrete events, to compare rules of reputation. Pure and seeded.

A request goes through every stage in turn, at each to the node that should be done first as the rule charges
it. One operator's clients share what they learn. Liars are quicker than honest nodes, since they calculate
less; colluders give equal wrong answers and call honest ones wrong when they are asked for a replay.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from metainf.swarm.trust.audit import Limit, settle
from metainf.swarm.trust.reputation import Event
from metainf.swarm.trust.reputation_rules import Oracle, Rule
from metainf.swarm.words import Profile

Kind = Literal["honest", "flaky", "blatant", "sleeper", "colluder", "whitewasher"]
LIARS: tuple[Kind, ...] = ("blatant", "sleeper", "colluder", "whitewasher")
RIGHT, TOGETHER = 1.0, -1.0
PLAIN = Limit(
    profile=Profile(dtype="float32"), worst=1e-3, typical=1e-3, separates=True,
    honest_worst=0.0, honest_typical=0.0, lie_worst=1.0, lie_typical=1.0, audits=0, source="played",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Who is there, and how they behave. Shares are of all nodes; times are seconds.

    A sleeper is honest for its first 200 answers, then lies in a fifth; a colluder lies in a third; a
    whitewasher is honest for its first 10 answers, then always lies, and comes back under a new name a minute
    after it was found out. `replay` is the cost of a replay as a share of the answer's.
    """

    stages: int = 3
    per_stage: int = 40
    sessions: int = 60
    seconds: float = 3600.0
    shares: tuple[tuple[Kind, float], ...] = (
        ("flaky", 0.10), ("blatant", 0.05), ("sleeper", 0.05), ("colluder", 0.06), ("whitewasher", 0.04),
    )  # fmt: skip
    honest_fails: float = 0.002
    flaky_fails: float = 0.04
    liar_speed: float = 0.7
    failure_s: float = 1.0
    replay: float = 0.11
    trial_every_s: float = 5.0
    return_s: float = 60.0


@dataclass
class Machine:
    """One node as it is, which no rule can see."""

    number: int
    kind: Kind
    service_s: float
    free_s: float = 0.0
    answers: int = 0
    away_until_s: float = 0.0
    name: str = ""
    life: int = 0

    def named(self, life: int) -> None:
        """Take a name, the first or a new one."""
        self.life, self.name = life, f"node-{self.number}-{life}"


@dataclass
class Told:
    """What came of a game. `wrong_late` counts the second half only."""

    asked: int = 0
    right: int = 0
    wrong: int = 0
    right_late: int = 0
    wrong_late: int = 0
    broken: int = 0
    audits: int = 0
    framed: int = 0
    caught: int = 0
    identities: int = 0
    seconds: float = 0.0
    by_time: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def wrong_share(self) -> float:
        return self.wrong / max(1, self.wrong + self.right)

    @property
    def right_per_s(self) -> float:
        return self.right / self.seconds


def machines(world: World, rng: np.random.Generator) -> list[Machine]:
    """Nodes in a random order; machine i serves stage i mod `stages`."""
    count = world.stages * world.per_stage
    kinds: list[Kind] = [kind for kind, share in world.shares for _ in range(round(share * count))]
    kinds += ["honest"] * (count - len(kinds))
    made = []
    for number, at in enumerate(rng.permutation(count)):
        kind = kinds[at]
        quick = world.liar_speed if kind in LIARS else 1.0
        made.append(Machine(number, kind, float(rng.lognormal(0.0, 0.3)) * quick))
        made[-1].named(0)
    return made


class Game:
    """One swarm under one rule."""

    def __init__(self, world: World, rule: Rule | Literal["oracle"], seed: int) -> None:
        self.world, self.rng = world, np.random.default_rng(seed)
        self.machines = machines(world, self.rng)
        lying = {each.number for each in self.machines if each.kind in LIARS}
        self.rule = Oracle(lambda name: int(name.split("-")[1]) in lying) if rule == "oracle" else rule
        self.told = Told(seconds=world.seconds, identities=len(self.machines))
        self.stages = [self.machines[stage :: world.stages] for stage in range(world.stages)]
        self._next_trial_s = 0.0

    def run(self) -> Told:
        """Play all seconds. A request that ends after them does not count."""
        ready = [(float(self.rng.random()), number) for number in range(self.world.sessions)]
        heapq.heapify(ready)
        while ready:
            now, session = heapq.heappop(ready)
            if now >= self.world.seconds:
                continue
            self._trials(now)
            ends, fine = self._request(now)
            if ends < self.world.seconds:
                self._count(ends, fine)
            heapq.heappush(ready, (ends, session))
        return self.told

    def _count(self, ends: float, fine: bool) -> None:
        told, late = self.told, ends >= self.world.seconds / 2
        told.asked += 1
        told.right += fine
        told.wrong += not fine
        told.right_late += fine and late
        told.wrong_late += not fine and late
        told.by_time.append((ends, fine))

    def _request(self, now: float) -> tuple[float, bool]:
        """When it ends, and whether all answers were right."""
        fine = True
        for stage in self.stages:
            tried: set[int] = set()
            while True:
                machine = self._chosen(stage, now, tried)
                begins = max(now, machine.free_s)
                if self.rng.random() < self._fails(machine):
                    now = begins + self.world.failure_s
                    tried.add(machine.number)
                    self.told.broken += 1
                    self.rule.heard(Event(node=machine.name, at_s=now, kind="failed"))
                    continue
                now = machine.free_s = begins + machine.service_s
                answer = self._answer(machine)
                fine = fine and answer == RIGHT
                name = machine.name
                self.rule.heard(Event(node=name, at_s=now, kind="served"))
                if self.rng.random() < self.rule.share(name, now):
                    self._audit(stage, machine, answer, now)
                break
        return now, fine

    def _chosen(self, stage: list[Machine], now: float, tried: set[int]) -> Machine:
        """Who should be done first, as charged, among the best class of those that may be used."""
        best, least, found = -1, 0.0, stage[0]
        for each in stage:
            if each.away_until_s > now or each.number in tried:
                continue
            usable = self.rule.usable(each.name, now)
            if usable < best:
                continue
            cost = max(0.0, each.free_s - now) + each.service_s * self.rule.charge(each.name)
            if usable > best or cost < least:
                best, least, found = usable, cost, each
        return found

    def _fails(self, machine: Machine) -> float:
        return self.world.flaky_fails if machine.kind == "flaky" else self.world.honest_fails

    def _answer(self, machine: Machine) -> float:
        """RIGHT, or a number of its own for a lie; colluders lie alike."""
        machine.answers += 1
        rng, kind = self.rng, machine.kind
        lies = {
            "blatant": True,
            "sleeper": machine.answers > 200 and rng.random() < 0.2,
            "colluder": rng.random() < 1 / 3,
            "whitewasher": machine.answers > 10,
        }.get(kind, False)
        if not lies:
            return RIGHT
        return TOGETHER if kind == "colluder" else float(2 + rng.random())

    def _replayed(self, peer: Machine, suspect: Machine, answer: float, now: float) -> float:
        """What a peer says of another's answer; a colluder vouches for its own and frames all others."""
        peer.free_s = max(now, peer.free_s) + peer.service_s * self.world.replay
        if peer.kind == "colluder":
            return answer if suspect.kind == "colluder" else TOGETHER
        if peer.kind in LIARS:
            return self._answer(peer)
        return RIGHT

    def _audit(self, stage: list[Machine], suspect: Machine, answer: float, now: float) -> None:
        """Ask others until one side leads; nobody holds blocks of its own here."""
        self.told.audits += 1
        answers = {suspect.name: _array(answer)}
        for peer in self._peers(stage, suspect, now):
            answers[peer.name] = _array(self._replayed(peer, suspect, answer, now))
            settled = settle(answers, PLAIN)
            if settled.decided:
                break
        else:
            return
        by_name = {each.name: each for each in stage}
        for name in settled.cleared:
            self.rule.heard(Event(node=name, at_s=now, kind="passed"))
        for name in settled.guilty:
            guilty = by_name[name]
            self.told.caught += guilty.kind in LIARS
            self.told.framed += guilty.kind not in LIARS
            self.rule.heard(Event(node=name, at_s=now, kind="lied"))
            self._flees(guilty, now)

    def _flees(self, machine: Machine, now: float) -> None:
        if machine.kind == "whitewasher" and not self.rule.usable(machine.name, now):
            machine.named(machine.life + 1)
            machine.answers = 0
            machine.away_until_s = now + self.world.return_s
            self.told.identities += 1

    def _peers(self, stage: list[Machine], suspect: Machine, now: float) -> Iterable[Machine]:
        """Up to seven others, those who passed their trials first, in random order."""
        others = [
            (self.rule.usable(each.name, now), float(self.rng.random()), each.number, each)
            for each in stage
            if each is not suspect and each.away_until_s <= now
        ]
        return [each[-1] for each in heapq.nlargest(7, others) if each[0]]

    def _trials(self, now: float) -> None:
        if now < self._next_trial_s:
            return
        self._next_trial_s = now + self.world.trial_every_s
        for stage in self.stages:
            for each in stage:
                if each.away_until_s <= now and self.rule.tries(each.name, now):
                    each.free_s = max(now, each.free_s) + each.service_s * self.world.replay
                    self._audit(stage, each, self._answer(each), now)


def _array(value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((1, 1, 2), value, dtype=np.float32)
