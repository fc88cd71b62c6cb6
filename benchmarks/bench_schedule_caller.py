"""A caller of the swarm before simulated replicas: its scheduler against the choice by announced speeds.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_schedule_caller.py [--write docs/scheduler.md]

Replicas announce as real ones do: their moving averages every three seconds, with the load of that moment.
What takes time is `schedule.node`, on a clock of its own. Texts name no limits.
"""

import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, written

from metainf.hosts.places import Places
from metainf.swarm.host.engine import WholeLoad
from metainf.swarm.host.flights import Flight
from metainf.swarm.host.scheduling import Asking, Circle, Scheduler
from metainf.swarm.plan.replicas import ENDPOINT, Replica, Wanted, best_way
from metainf.swarm.plan.routing import Client
from metainf.swarm.schedule.node import Node, Sequence
from metainf.swarm.words import Announcement, Features, Offered, Profile, Span, Writing

TOKEN_S, PLACES, BLOCKS, SAYS_S = (0.02, 0.03, 0.05, 0.08), 4, 16, 3.0
"""A token alone at each replica; a token of a prompt takes a twentieth of that."""
ADDS, TEXTS, SEEDS = 0.25, 240, (1, 2)
MODEL = "b2:" + "0" * 32
CASES = {
    "little traffic": (0.5, 0.0, False),
    "half of what they can": (1.5, 0.0, False),
    "most of what they can": (2.4, 0.0, False),
    "speeds are not as announced": (1.0, 0.6, False),
    "the quickest becomes ten times as slow": (0.8, 0.0, True),
}
"""Texts a second, the spread (log) of true speeds around those announced, whether one is slowed."""


@dataclass
class Told:
    """What came of the texts of one way to choose."""

    ttft_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    decision_s: list[float] = field(default_factory=list)


class World:
    """Replicas, and what they say of themselves."""

    def __init__(self, rng: random.Random, spread: float, token_s: tuple[float, ...] = TOKEN_S) -> None:
        self.now_s, self.token_s = 0.0, token_s
        self.off = [float(np.exp(rng.gauss(0.0, spread))) for _ in token_s]
        self.nodes = [
            Node(token_s * off * (1 - ADDS), token_s * off * ADDS, PLACES)
            for token_s, off in zip(self.token_s, self.off, strict=True)
        ]
        self.loads = [
            WholeLoad(1000 * token_s / BLOCKS, 50 * token_s / BLOCKS, num_blocks=BLOCKS)
            for token_s in self.token_s
        ]
        for load in self.loads:
            load.places = Places(PLACES, 4 * PLACES)
        self.said_s, self.seq = -SAYS_S, 0
        self.words: list[Announcement] = []

    def say(self) -> None:
        if self.now_s - self.said_s >= SAYS_S:
            self.said_s, self.seq = self.now_s, self.seq + 1
            self.words = [self._word(at) for at in range(len(self.token_s))]

    def _word(self, at: int) -> Announcement:
        node, load, token_s = self.nodes[at], self.loads[at], self.token_s[at]
        assert load.places is not None
        load.places.taken = min(PLACES, node.load)
        offered = Offered(
            method="plain",
            decode_ms_per_block=1000 * token_s / BLOCKS,
            prefill_ms_per_token_block=50 * token_s / BLOCKS,
        )
        waiting = int(node.waiting_tokens)
        writing = Writing(
            method="plain", methods=(offered,), places=PLACES, texts=node.load, waiting_tokens=waiting
        )
        features = Features(
            decode_ms_per_block=load.decode_ms, prefill_ms_per_token_block=load.prefill_ms,
            queue_ms=load.queue_ms(), labels=(ENDPOINT,), writing=writing,
        )  # fmt: skip
        return Announcement(
            node=f"node-{at}", generation=1, seq=self.seq, address="127.0.0.1:1", certificate=MODEL,
            model=MODEL, num_blocks=BLOCKS, span=Span(start=0, end=BLOCKS), features=features, issued_s=1.0,
            profile=Profile(dtype="float32", engine="llama.cpp"), valid_until_s=600.0,
        )  # fmt: skip


class Caller:
    """Sends texts as they come, and passes on what it sees."""

    def __init__(self, world: World, scheduler: Scheduler | None) -> None:
        self.world, self.scheduler, self.told = world, scheduler, Told()
        self.open: dict[int, tuple[int, Sequence, Flight]] = {}
        self.client = Client(rtt_ms={f"node-{at}": 1.0 for at in range(len(TOKEN_S))})

    def send(self, number: int, prompt: int, tokens: int) -> None:
        world = self.world
        world.say()
        asking = Asking(range(1000 * number, 1000 * number + prompt), tokens)
        way: Any = best_way(world.words, asking.demand, self.client, Wanted())
        flight, begun = Flight(), time.perf_counter()
        if self.scheduler is not None:
            way, flight = self.scheduler.way(Circle(world.words, self.client, Wanted()), asking, way)
            self.told.decision_s.append(time.perf_counter() - begun)
        assert isinstance(way, Replica)
        at = int(way.node.removeprefix("node-"))
        work_s = prompt * TOKEN_S[at] / 20 * self.world.off[at]
        sequence = Sequence(number, work_s, float(tokens), world.now_s, float(prompt))
        world.nodes[at].advance(world.now_s)
        world.nodes[at].add(sequence)
        flight.__enter__()
        self.open[number] = (at, sequence, flight)

    def until(self, now_s: float) -> None:
        """All that happens by then."""
        world = self.world
        while True:
            due = [at_s for node in world.nodes if (at_s := node.next_s()) is not None]
            if not due or min(due) > now_s:
                break
            at_s = min(due)
            world.now_s = at_s
            world.say()
            for at, node in enumerate(world.nodes):
                ended = node.advance(at_s)
                self._first_tokens(at)
                for each in ended:
                    self._ended(at, each)
        if np.isfinite(now_s):
            world.now_s = now_s

    def _first_tokens(self, at: int) -> None:
        for where, sequence, flight in self.open.values():
            if where == at and sequence.first_s and flight.first_s is None:
                flight.wrote(1)

    def _ended(self, at: int, sequence: Sequence) -> None:
        flight, now_s = self.open.pop(sequence.number)[2], self.world.now_s
        flight.wrote(int(sequence.output_tokens), finished=True)
        flight.__exit__(None)
        waited, first = sequence.begun_s - sequence.asked_s, sequence.first_s - sequence.begun_s
        times = (1000 * waited, 1000 * first, 1000 * (now_s - sequence.first_s))
        self.world.loads[at].wrote(times, (int(sequence.tokens), int(sequence.output_tokens)))
        self.told.ttft_s.append(sequence.first_s - sequence.asked_s)
        self.told.whole_s.append(now_s - sequence.asked_s)


def played(case: str, scheduled: bool, seed: int) -> Told:
    """All texts of a case. The same seed gives the same texts and nodes to both ways."""
    rate_per_s, spread, slows = CASES[case]
    rng = random.Random(seed)
    world = World(rng, spread)
    scheduler = Scheduler(clock=lambda: world.now_s, rng=np.random.default_rng(seed)) if scheduled else None
    caller, at_s = Caller(world, scheduler), 0.0
    for number in range(TEXTS):
        at_s += rng.expovariate(rate_per_s)
        caller.until(at_s)
        if slows and number == TEXTS // 3:
            world.off[0] *= 10
            world.nodes[0].step_s *= 10
            world.nodes[0].per_sequence_s *= 10
        caller.send(number, rng.randint(16, 400), rng.randint(8, 120))
    caller.until(np.inf)
    assert len(caller.told.whole_s) == TEXTS
    return caller.told


def decided_ms(count: int = 1000, texts: int = 120) -> tuple[float, float]:
    """Processor time of a decision among so many replicas: the median, and the longest of those that find
    new announcements, which come every twentieth text."""
    rng = random.Random(0)
    world = World(rng, 0.3, tuple(rng.uniform(0.01, 0.1) for _ in range(count)))
    client = Client(rtt_ms={f"node-{at}": 1.0 for at in range(count)})
    scheduler = Scheduler(clock=lambda: world.now_s, rng=np.random.default_rng(0))
    world.say()
    spent = []
    for number in range(texts):
        world.now_s += SAYS_S / 20
        world.say()
        asking = Asking(range(1000 * number, 1000 * number + 200), 64)
        present = best_way(world.words, asking.demand, client, Wanted())
        begun = time.process_time()
        _, flight = scheduler.way(Circle(world.words, client, Wanted()), asking, present)
        spent.append(1000 * (time.process_time() - begun))
        flight.__enter__()
    return statistics.median(spent), max(spent[1:])


def lines() -> list[str]:
    """The table."""
    made = [
        "| traffic | whole text, mean s | by speed | 95th percentile s | by speed | first token, mean s "
        "| by speed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    decisions: list[float] = []
    for case in CASES:
        cells = []
        both = [[played(case, scheduled, seed) for seed in SEEDS] for scheduled in (True, False)]
        for pick in (_mean_whole, _p95_whole, _mean_first):
            cells += [f"{statistics.mean(pick(each) for each in told):.2f}" for told in both]
        decisions += [took for told in both[0] for took in told.decision_s]
        made.append(f"| {case} | {' | '.join(cells)} |")
    about, (usual_ms, most_ms) = machine(), decided_ms()
    head = (
        f"`python benchmarks/bench_schedule_caller.py --write docs/scheduler.md`: {TEXTS} texts a case and "
        f"seed, {len(SEEDS)} seeds, four replicas that write a token in "
        f"{', '.join(f'{1000 * each:g}' for each in TOKEN_S)} ms with {PLACES} places each. A decision took "
        f"{1000 * statistics.median(decisions):.2f} ms by the clock; among 1,000 replicas {usual_ms:.2f} ms "
        f"of processor at the median, and {most_ms:.0f} ms where all of them had said something new "
        f"({about['processor']}, load {about['load']})."
    )
    return [head, "", *made]


def _mean_whole(told: Told) -> float:
    return statistics.mean(told.whole_s)


def _p95_whole(told: Told) -> float:
    return float(np.percentile(told.whole_s, 95))


def _mean_first(told: Told) -> float:
    return statistics.mean(told.ttft_s)


if __name__ == "__main__":
    made_ = "\n".join(lines())
    print(made_)
    if "--write" in sys.argv:
        written(Path(sys.argv[sys.argv.index("--write") + 1]), "benchmarks/bench_schedule_caller.py", made_)
