"""Requests through a queue whose servers and consumers are killed at random, for benchmark and test."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker_parts import GROUP, answer, job

from metainf.swarm.broker.agent import Agent
from metainf.swarm.broker.streams import REPLIES, connected
from metainf.swarm.broker.words import Job
from metainf.swarm.host.nats import Server

PARTS = Path(__file__).with_name("broker_parts.py")


@dataclass
class Came:
    """What came of it: answers handed over, wrong ones, requests with none, ids that the server keeps two
    answers of; how often a server and a consumer was killed; seconds in all."""

    answered: int = 0
    wrong: int = 0
    lost: int = 0
    twice: int = 0
    servers_killed: int = 0
    consumers_killed: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How many requests, how many of them at once, how many consumers, what one request takes, how often
    (mean seconds) something is killed and for how long it is away."""

    requests: int = 10_000
    at_once: int = 400
    consumers: int = 3
    work_s: float = 0.001
    kill_s: float = 2.0
    away_s: float = 0.5
    within_s: float = 300.0
    seed: int = 7


def start_consumer(
    servers: Sequence[Server], name: str, work_s: float, slots: int = 64
) -> "subprocess.Popen[bytes]":
    """One in a process of its own; it is ready when this returns."""
    urls = ",".join(server.url for server in servers)
    words = [urls, GROUP, name, str(slots), str(work_s), str(len(servers))]
    process = subprocess.Popen([sys.executable, str(PARTS), *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


async def play(servers: Sequence[Server], plan: Plan) -> Came:
    """Send everything while things are killed. The servers run already, and run again in the end."""
    came, rng = Came(), random.Random(plan.seed)
    crew = [
        await asyncio.to_thread(start_consumer, servers, f"consumer-{number}", plan.work_s)
        for number in range(plan.consumers)
    ]
    begun = time.perf_counter()
    try:
        async with Agent(",".join(server.url for server in servers), "agent", len(servers)) as agent:
            killing = asyncio.create_task(_kill(servers, crew, plan, (rng, came)))
            gate = asyncio.Semaphore(plan.at_once)
            asked = [job(number, "agent", within_s=plan.within_s) for number in range(plan.requests)]
            await asyncio.gather(*(_one(agent, each, gate, came) for each in asked))
            came.seconds = time.perf_counter() - begun
            killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killing
            for server in servers:
                if server.process is None or server.process.poll() is not None:
                    await asyncio.to_thread(server.start)
        came.twice = await kept_twice(servers)
    finally:
        for process in crew:
            process.kill()
            process.wait()
    return came


async def _one(agent: Agent, asked: Job, gate: asyncio.Semaphore, came: Came) -> None:
    async with gate:
        try:
            reply = await agent.ask(asked)
        except Exception as error:
            came.lost += 1
            came.errors.append(repr(error)[:200])
            return
    came.answered += 1
    if reply.body != answer(asked.body):
        came.wrong += 1
        came.errors.append(str(reply)[:200])


async def _kill(
    servers: Sequence[Server],
    crew: "list[subprocess.Popen[bytes]]",
    plan: Plan,
    chance: tuple[random.Random, Came],
) -> None:
    """A server or a consumer, in turn, again and again."""
    rng, came = chance
    while True:
        await asyncio.sleep(rng.expovariate(1 / plan.kill_s))
        if rng.random() < 0.5:
            server = rng.choice(list(servers))
            await asyncio.to_thread(server.kill)
            came.servers_killed += 1
            await asyncio.sleep(plan.away_s)
            await asyncio.to_thread(server.start)
        else:
            which = rng.randrange(len(crew))
            crew[which].kill()
            crew[which].wait()
            came.consumers_killed += 1
            name = f"consumer-{which}-{came.consumers_killed}"
            starting = asyncio.ensure_future(asyncio.to_thread(start_consumer, servers, name, plan.work_s))
            try:
                await asyncio.shield(starting)
            finally:  # cancelled in the middle too, so that nobody is left behind
                crew[which] = await starting


async def kept_twice(servers: Sequence[Server]) -> int:
    """Ids of which the stream of answers holds more than one."""
    connection = await connected([server.url for server in servers], "counting")
    told = await connection.jetstream().stream_info(REPLIES, subjects_filter="rep.>")
    await connection.close()
    return sum(1 for count in (told.state.subjects or {}).values() if count > 1)
