"""The meta-scheduler before real engines: unlike llama.cpp endpoints on this machine, at made-up prices.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_schedule_real.py [--write docs/scheduler.md]

All endpoints share the machine's cores. Each round sends the same arrivals to every policy in turn, in an
order that changes. Every turn has its own documents, so that nobody finds in an engine's cache what another
policy put there.
"""

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
from measuring import machine, written

from metainf.measure.weights import bundled
from metainf.swarm.schedule.caching import Prefixes
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.policies import Fixed, Ours
from metainf.swarm.schedule.simulating import Policy
from metainf.swarm.schedule.words import BLOCK_TOKENS, Ask, Floats, Ints, Outcome, Rates, Swarm

ENGINES = (
    ("two threads, four slots", 2.0, 4, ("-t", "2", "-np", "4", "-c", "8192")),
    ("one thread, four slots", 0.8, 4, ("-t", "1", "-np", "4", "-c", "8192")),
    (
        "one thread, one slot, no prefix cache",
        0.6,
        1,
        ("-t", "1", "-np", "1", "-c", "2048", "--no-cache-prompt"),
    ),
)
"""A name, US dollars an hour, sequences at once, words of the engine."""
ROUNDS, SECONDS, RATE_PER_S, DOCUMENTS = 3, 30.0, 0.4, 4
TTFT_TIMES, TPOT_TIMES = 2.5, 4.0
"""Limits: so many times what the fastest endpoint takes alone."""
WORDS = ("old", "river", "field", "town", "rain", "people", "wait", "slow", "green", "past")


@dataclass(frozen=True)
class Job:
    """A request: when, its document (which others share), its own end, tokens to write."""

    at_s: float
    document: int
    prompt: str
    output_tokens: int


@dataclass
class Tally:
    """What came of one policy."""

    asked: int = 0
    good: int = 0
    usd: float = 0.0
    chosen: list[int] = field(default_factory=lambda: [0] * len(ENGINES))


@contextlib.contextmanager
def engines() -> Iterator[list[str]]:
    """The addresses of all endpoints, once they answer."""
    running, urls = [], []
    with tempfile.TemporaryFile() as log:
        try:
            for _, _, _, words in ENGINES:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = str(free.getsockname()[1])
                command = [
                    "-m",
                    "metainf.hosts.llama_cpp",
                    "-m",
                    str(bundled()),
                    "--host",
                    "127.0.0.1",
                    "--port",
                ]
                running.append(subprocess.Popen([sys.executable, *command, port, *words], stderr=log))
                urls.append(f"http://127.0.0.1:{port}")
            for url in urls:
                _await(url)
            yield urls
        finally:
            for each in running:
                each.send_signal(signal.SIGKILL)
                each.wait(20)


def _await(url: str) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health") as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"{url} did not start")


def text(seed: int, words: int) -> str:
    """Words by chance."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def jobs(seed: int, turn: int) -> list[Job]:
    """Arrivals by chance; each asks about one of a few documents, which differ between turns."""
    rng, at_s, found = random.Random(seed), 0.0, list[Job]()
    while (at_s := at_s + rng.expovariate(RATE_PER_S)) < SECONDS:
        document = (100 * seed + turn) * DOCUMENTS + rng.randrange(DOCUMENTS)
        end = text(rng.randrange(10**9), 24)
        found.append(Job(at_s, document, f"{text(document, BLOCK_TOKENS)} {end}", rng.randint(12, 40)))
    return found


class Driver:
    """Endpoints, and what is known of them without asking: what was sent and what came back."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str]) -> None:
        self.session, self.urls = session, urls

    async def ask(self, node: int, prompt: str, tokens: int) -> tuple[float, float]:
        """Seconds to the first token, and for each other token."""
        body = {"prompt": prompt, "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0}
        begun, first = time.perf_counter(), 0.0
        async with self.session.post(f"{self.urls[node]}/v1/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if not first and line.startswith(b"data:"):
                    first = time.perf_counter()
        return first - begun, (time.perf_counter() - first) / max(1, tokens - 1)

    async def rates(self) -> Rates:
        """A forecast from three short probes of each endpoint, while the others rest."""
        told = []
        for node, (_, _, slots, _) in enumerate(ENGINES):
            await self.ask(node, "Hello", 4)
            ttft, _ = await self.ask(node, text(10**6 + node, BLOCK_TOKENS), 2)
            _, alone = await self.ask(node, "Hello", 24)
            both = await asyncio.gather(
                *(self.ask(node, f"Hello {each}", 24) for each in range(min(2, slots)))
            )
            each_s = max(float(np.mean([tpot for _, tpot in both])) - alone, 0.05 * alone)
            told.append((ttft / BLOCK_TOKENS, max(alone - each_s, 0.2 * alone), each_s))
        columns = [np.array(column)[:, None] for column in zip(*told, strict=True)]
        slots_, shape = np.array([[each[2]] for each in ENGINES]), (len(ENGINES), 1)
        held = np.array([[0 if "--no-cache-prompt" in each[3] else each[2]] for each in ENGINES])
        return Rates(("as started",), columns[0], columns[1], columns[2], slots_, held, np.full(shape, 0.3))

    async def run(
        self, policy: Policy, rates: Rates, coming: list[Job], tally: Tally, limits: Floats
    ) -> None:
        """One turn of one policy."""
        swarm = Swarm(np.arange(len(ENGINES)), np.zeros(len(ENGINES), dtype=np.int64),
                      np.array([each[1] for each in ENGINES]) / 3600, np.ones(len(ENGINES)),
                      tuple(frozenset() for _ in ENGINES))  # fmt: skip
        prefixes = Prefixes(rates.cached_blocks[:, 0].tolist())
        begun, since = time.perf_counter(), [0.0] * len(ENGINES)

        async def one(job: Job) -> None:
            await asyncio.sleep(max(0.0, begun + job.at_s - time.perf_counter()))
            asked = Ask(BLOCK_TOKENS + 30, 26.0, float(limits[0]), float(limits[1]), blocks=(job.document,))
            now_s = time.perf_counter() - begun
            cached = prefixes.tokens(asked.blocks)
            node = policy.node(swarm, asked, cached, now_s)
            prefixes.sent(node, asked.blocks)
            tokens = asked.input_tokens - float(cached[node])
            before = swarm.waiting_tokens[node] + tokens
            swarm.waiting_tokens[node] += tokens
            since[node] = since[node] if swarm.running[node] else now_s
            swarm.running[node] += 1
            beside, tally.chosen[node] = swarm.running[node], tally.chosen[node] + 1
            asyncio.get_running_loop().call_later(
                float(before * rates.prefill_s_per_token[node, 0]), _less, swarm, node, tokens
            )
            ttft, tpot = await self.ask(node, job.prompt, job.output_tokens)
            good = bool(ttft <= limits[0] and tpot <= limits[1])
            beside = (beside + swarm.running[node]) / 2
            swarm.running[node] -= 1
            if not swarm.running[node]:
                tally.usd += (time.perf_counter() - begun - since[node]) * float(swarm.usd_per_s[node])
                swarm.waiting_tokens[node] = 0.0
            step = float(rates.step_s[node, 0] + beside * rates.step_per_sequence_s[node, 0])
            told = ttft / (before * float(rates.prefill_s_per_token[node, 0]) + step), tpot / step
            policy.learn(swarm, Outcome(node, 0, *told), good)
            tally.asked, tally.good = tally.asked + 1, tally.good + good

        await asyncio.gather(*(one(job) for job in coming))


def _less(swarm: Swarm, node: int, tokens: float) -> None:
    swarm.waiting_tokens[node] = max(0.0, swarm.waiting_tokens[node] - tokens)


async def measured(urls: list[str]) -> tuple[dict[str, Tally], Rates, Floats]:
    """All rounds."""
    timeout = aiohttp.ClientTimeout(total=120)
    each_new = aiohttp.TCPConnector(force_close=True)  # the engine hangs up after each answer
    async with aiohttp.ClientSession(timeout=timeout, connector=each_new) as session:
        driver = Driver(session, urls)
        rates = await driver.rates()
        alone = (
            (BLOCK_TOKENS * rates.prefill_s_per_token).min(),
            (rates.step_s + rates.step_per_sequence_s).min(),
        )
        limits = np.array([TTFT_TIMES * alone[0], TPOT_TIMES * alone[1]])
        count, capacity = len(ENGINES), 1 / rates.step_s[:, 0]
        cheapest = float(np.min([each[1] for each in ENGINES])) / 3600
        worth = 1 / (cheapest * BLOCK_TOKENS * float(rates.prefill_s_per_token.max()))
        policies: dict[str, Policy] = {
            "MetaInf": Ours(rates, Learned(count, count, 1), np.random.default_rng(1), worth, switches=False),
            "least loaded": Fixed("least loaded", capacity, np.random.default_rng(1)),
            "round robin": Turns(),
            **{f"always {each[0]}": Always(node) for node, each in enumerate(ENGINES)},
            "round robin with affinity": Fixed(
                "round robin with affinity", capacity, np.random.default_rng(1)
            ),
        }
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
            print(
                number, {name: (each.good, round(each.usd, 5)) for name, each in tallies.items()}, flush=True
            )
    return tallies, rates, limits


class Turns:
    """Each node in turn."""

    turn = 0

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        self.turn += 1
        return self.turn % len(swarm)

    def learn(self, swarm: Swarm, outcome: Outcome, good: bool) -> None:
        """It learns nothing."""

    def methods(self, swarm: Swarm, now_s: float) -> Ints:
        return swarm.method.copy()


class Always(Turns):
    """One node for all: a static choice."""

    def __init__(self, chosen: int) -> None:
        self.chosen = chosen

    def node(self, swarm: Swarm, ask: Ask, cached: Floats, now_s: float) -> int:
        return self.chosen


def page(tallies: dict[str, Tally], rates: Rates, limits: Floats) -> str:
    """The lines of docs/scheduler.md."""
    about = machine()
    shown = "; ".join(f"{name} at {usd:g} USD/h" for name, usd, _, _ in ENGINES)
    lines = [
        f"`python benchmarks/bench_schedule_real.py --write docs/scheduler.md` on {about['cores']} cores of "
        f"{about['processor']}, load {about['load']} at the end. SmolLM2-135M on llama.cpp: {shown}. Within "
        f"{limits[0]:.2f} s to the first token and {limits[1] * 1000:.0f} ms for each other. {ROUNDS} rounds "
        f"of {SECONDS:g} s, {RATE_PER_S:g} requests/s, all policies in turn.",
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
    with engines() as urls_:
        made = page(*asyncio.run(measured(urls_)))
    print(made)
    print(json.dumps(machine()), file=sys.stderr)
    if sys.argv[1:2] == ["--write"]:
        written(Path(sys.argv[2]), "benchmarks/bench_schedule_real.py", made)
