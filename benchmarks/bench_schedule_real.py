"""The meta-scheduler before real engines: unlike llama.cpp endpoints, each on a part of a core of its own.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_schedule_real.py [--write docs/scheduler.md]

Traffic is calm and comes in a rush by turns. Each round sends the same arrivals to every policy in turn, in
an order that changes. Every turn has its own documents, so that nobody finds in an engine's cache what
another policy put there. A dollar is spent while an endpoint works. Prices are made up: the quicker costs
more for the same work.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
from measuring import machine, written
from real_endpoints import Endpoint, running
from real_traffic import (
    CALM_PER_S,
    CALM_S,
    DOCUMENT_TOKENS,
    LEAST_OUT,
    MOST_OUT,
    OWN_WORDS,
    RUSH_PER_S,
    RUSH_S,
    SECONDS,
    Job,
    jobs,
    text,
)

from metainf.swarm.schedule.caching import Prefixes
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.planning import Flow, planned
from metainf.swarm.schedule.policies import Fixed, Ours
from metainf.swarm.schedule.simulating import Policy
from metainf.swarm.schedule.words import Ask, Floats, Ints, Outcome, Rates, Swarm

ENDPOINTS = (
    Endpoint("0.8 of a core", 1.00, core=0, share=0.80, slots=4),
    Endpoint("0.5 of a core", 0.45, core=1, share=0.50, slots=4),
    Endpoint("0.25 of a core, no prefix cache", 0.15, core=1, share=0.25, slots=2, keeps=False),
)
ROUNDS = 3
TTFT_TIMES, TPOT_TIMES = 4.0, 5.0
"""Limits: so many times what the fastest endpoint takes alone."""
UNSURE = 0.3
Times = tuple[float, float]


@dataclass
class Tally:
    """What came of one policy."""

    asked: int = 0
    good: int = 0
    usd: float = 0.0
    chosen: list[int] = field(default_factory=lambda: [0] * len(ENDPOINTS))


@dataclass
class Flight:
    """One request under way, as its caller sees it: others at the node when it began, tokens to be read
    before its first, and the share of the node's time that prompts took."""

    node: int
    beside: float
    before: float
    tokens: float
    held_up: float


class Driver:
    """Endpoints, and what is known of them without asking: what was sent and what came back."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.session, self.urls = session, urls

    async def ask(self, node: int, prompt: str, tokens: int, first: asyncio.Event | None = None) -> Times:
        """Seconds to the first token, and for each other token."""
        body = {"prompt": prompt, "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0}
        begun, first_s = time.perf_counter(), 0.0
        async with self.session.post(f"{self.urls[node]}/v1/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if not first_s and line.startswith(b"data:"):
                    first_s = time.perf_counter()
                    if first is not None:
                        first.set()
        return first_s - begun, (time.perf_counter() - first_s) / max(1, tokens - 1)

    async def rates(self) -> Rates:
        """A forecast from three short probes of each endpoint, while the others rest."""
        told = []
        for node, each in enumerate(ENDPOINTS):
            await self.ask(node, "Hello", 4)
            ttft, _ = await self.ask(node, text(10**6 + node, DOCUMENT_TOKENS), 2)
            _, alone = await self.ask(node, "Hello", 24)
            count = min(2, each.slots)
            both = await asyncio.gather(*(self.ask(node, f"Hello {at}", 24) for at in range(count)))
            more = max(float(np.mean([tpot for _, tpot in both])) - alone, 0.05 * alone)
            told.append((ttft / DOCUMENT_TOKENS, max(alone - more, 0.2 * alone), more))
        columns = [np.array(column)[:, None] for column in zip(*told, strict=True)]
        slots = np.array([[each.slots] for each in ENDPOINTS])
        held = np.array([[each.slots if each.keeps else 0] for each in ENDPOINTS])
        prefill, step, each_s = columns
        return Rates(("as started",), prefill, step, each_s, slots, held, np.full(slots.shape, UNSURE))

    async def run(
        self, policy: Policy, rates: Rates, coming: list[Job], tally: Tally, limits: Floats
    ) -> None:
        """One turn of one policy."""
        turn = Turn(self, policy, rates, tally, limits)
        await asyncio.gather(*(turn.one(job) for job in coming))


class Turn:
    """The state of all endpoints as their caller knows it, while one policy has its turn."""

    def __init__(self, driver: Driver, policy: Policy, rates: Rates, tally: Tally, limits: Floats) -> None:
        self.driver, self.policy, self.rates, self.tally, self.limits = driver, policy, rates, tally, limits
        self.swarm = at_rest()
        self.prefixes = Prefixes(rates.cached_blocks[:, 0].tolist(), DOCUMENT_TOKENS)
        self.begun_s, self.since_s = time.perf_counter(), [0.0] * len(ENDPOINTS)

    def now_s(self) -> float:
        return time.perf_counter() - self.begun_s

    async def one(self, job: Job) -> None:
        await asyncio.sleep(max(0.0, job.at_s - self.now_s()))
        flight, first = self.sent(job), asyncio.Event()
        reading = asyncio.ensure_future(self.read(flight, first))
        ttft, tpot = await self.driver.ask(flight.node, job.prompt, job.output_tokens, first)
        await reading
        self.ended(flight, ttft, tpot)

    def sent(self, job: Job) -> Flight:
        swarm, rates, now_s = self.swarm, self.rates, self.now_s()
        ask = asked(self.limits, job.document)
        cached = self.prefixes.tokens(ask.blocks)
        node = self.policy.node(swarm, ask, cached, now_s)
        self.prefixes.sent(node, ask.blocks)
        tokens = ask.input_tokens - float(cached[node])
        step_s = rates.step_s[:, 0] + rates.step_per_sequence_s[:, 0]
        held_up = float(swarm.held_up(now_s, 4 * ask.output_tokens * step_s)[node])
        swarm.waiting_tokens[node] += tokens
        if not swarm.running[node]:
            self.since_s[node] = now_s
        swarm.running[node] += 1
        self.tally.chosen[node] += 1
        beside, before = float(swarm.running[node]), float(swarm.waiting_tokens[node])
        return Flight(node, beside, before, tokens, held_up)

    async def read(self, flight: Flight, first: asyncio.Event) -> None:
        """A prompt waits until the first token comes."""
        await first.wait()
        left = self.swarm.waiting_tokens[flight.node] - flight.tokens
        self.swarm.waiting_tokens[flight.node] = max(0.0, left)

    def ended(self, flight: Flight, ttft: float, tpot: float) -> None:
        swarm, rates, node, tally = self.swarm, self.rates, flight.node, self.tally
        good = bool(ttft <= self.limits[0] and tpot <= self.limits[1])
        beside = min((flight.beside + swarm.running[node]) / 2, float(rates.most_sequences[node, 0]))
        swarm.running[node] -= 1
        if not swarm.running[node]:
            tally.usd += (self.now_s() - self.since_s[node]) * float(swarm.usd_per_s[node])
        step = float(rates.step_s[node, 0] + beside * rates.step_per_sequence_s[node, 0])
        read_s = flight.before * float(rates.prefill_s_per_token[node, 0])
        outcome = Outcome(node, 0, ttft / (read_s + step), tpot * (1 - flight.held_up) / step)
        self.policy.learn(swarm, outcome, good)
        tally.asked, tally.good = tally.asked + 1, tally.good + good


def at_rest() -> Swarm:
    """All endpoints, with nothing to do."""
    count = len(ENDPOINTS)
    usd_per_s = np.array([each.usd_per_hour for each in ENDPOINTS]) / 3600
    nobody = tuple(frozenset[str]() for _ in ENDPOINTS)
    return Swarm(np.arange(count), np.zeros(count, dtype=np.int64), usd_per_s, np.ones(count), nobody)


def asked(limits: Floats, document: int) -> Ask:
    """What is known of a request before it is written: not how long its answer will be."""
    tokens, out = DOCUMENT_TOKENS + OWN_WORDS, (LEAST_OUT + MOST_OUT) / 2
    return Ask(tokens, out, float(limits[0]), float(limits[1]), blocks=(document,))


def policies_of(rates: Rates, limits: Floats) -> dict[str, Policy]:
    """All that are compared. MetaInf begins with what its forecast says that a dollar buys."""
    count, capacity = len(ENDPOINTS), 1 / (rates.step_s[:, 0] + rates.step_per_sequence_s[:, 0])
    learned, usual = Learned(count, count, 1), asked(limits, 0)
    mean_per_s = (CALM_PER_S * CALM_S + RUSH_PER_S * RUSH_S) / (CALM_S + RUSH_S)
    flow = Flow(mean_per_s, usual.input_tokens, usual.output_tokens, usual.max_ttft_s, usual.max_tpot_s)
    worth = planned(at_rest(), rates, learned, flow).good_per_usd

    def fixed(how: str) -> Fixed:
        return Fixed(how, capacity / capacity.sum(), np.random.default_rng(1))

    return {
        "MetaInf": Ours(rates, learned, np.random.default_rng(1), worth, switches=False),
        "least loaded": fixed("least loaded"),
        "round robin with affinity": fixed("round robin with affinity"),
        "fixed shares by speed": fixed("static"),
        **{f"always {each.name}": Always(node) for node, each in enumerate(ENDPOINTS) if each.keeps},
    }


async def measured(urls: list[str]) -> tuple[dict[str, Tally], Rates, Floats]:
    """All rounds."""
    timeout = aiohttp.ClientTimeout(total=None)
    each_new = aiohttp.TCPConnector(force_close=True)  # the engine hangs up after each answer
    async with aiohttp.ClientSession(timeout=timeout, connector=each_new) as session:
        driver = Driver(session, urls)
        rates = await driver.rates()
        alone = (
            ((DOCUMENT_TOKENS + OWN_WORDS) * rates.prefill_s_per_token).min(),
            (rates.step_s + rates.step_per_sequence_s).min(),
        )
        limits = np.array([TTFT_TIMES * alone[0], TPOT_TIMES * alone[1]])
        policies = policies_of(rates, limits)
        tallies = {name: Tally() for name in policies}
        for number in range(ROUNDS):
            names = list(policies)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                coming = jobs(number, names.index(name))
                clocked = policies[name]
                if isinstance(clocked, Ours):
                    clocked.last_s = clocked.replan_s = 0.0
                    clocked.following = type(clocked.following)()
                await driver.run(clocked, rates, coming, tallies[name], limits)
                print(number, name, tallies[name], flush=True)
    return tallies, rates, limits


class Always:
    """One node for all: a static choice."""

    def __init__(self, chosen: int) -> None:
        self.chosen = chosen

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        return self.chosen

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool) -> None:
        """It learns nothing."""

    def methods(self, swarm: Swarm, now_s: float) -> Ints:
        return swarm.method.copy()


def page(tallies: dict[str, Tally], limits: Floats, apart: bool) -> str:
    """The lines of docs/scheduler.md."""
    about = machine()
    shown = "; ".join(f"{each.name}, {each.slots} slots, {each.usd_per_hour:g} USD/h" for each in ENDPOINTS)
    shares = "each has its share for itself" if apart else "those on one core share it: no control groups"
    lines = [
        f"`python benchmarks/bench_schedule_real.py --write docs/scheduler.md` on {about['cores']} cores of "
        f"{about['processor']}, load {about['load']} at the end. SmolLM2-135M on llama.cpp: {shown}; "
        f"{shares}. Within {limits[0]:.2f} s to the first token and {limits[1] * 1000:.0f} ms for each "
        f"other. {ROUNDS} rounds of {SECONDS:g} s, by turns {CALM_S:g} s with {CALM_PER_S:g} requests/s and "
        f"{RUSH_S:g} s with {RUSH_PER_S:g}, all policies in turn.",
        "",
        "| policy | requests | within limits | USD | within limits for a cent | of which on each endpoint |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, each in tallies.items():
        chosen = ", ".join(map(str, each.chosen))
        lines.append(f"| {name} | {each.asked} | {each.good / each.asked:.0%} | {each.usd:.4f} "
                     f"| {each.good / each.usd / 100:.1f} | {chosen} |")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    with running(ENDPOINTS) as (urls_, apart_):
        tallies_, rates_, limits_ = asyncio.run(measured(urls_))
    made = page(tallies_, limits_, apart_)
    print(rates_, file=sys.stderr)
    print(made)
    print(json.dumps(machine()), file=sys.stderr)
    if sys.argv[1:2] == ["--write"]:
        written(Path(sys.argv[2]), "benchmarks/bench_schedule_real.py", made)
