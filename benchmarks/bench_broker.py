"""The queue: requests a second, how soon an urgent one is served, and what is lost when things are killed.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_broker.py [--write docs/broker.md]
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from broker_chaos import Plan, play, start_consumer
from broker_parts import GROUP, answer, job
from measuring import machine, tell, written

from metainf.swarm.broker.agent import Agent
from metainf.swarm.broker.consumer import Consumer
from metainf.swarm.broker.words import Job
from metainf.swarm.host.nats import Server, cluster, started

ROUNDS, REQUESTS, AT_ONCE = 3, 6000, 512
WAITING, URGENT, WORK_S = 1000, 20, 0.02
SETTLE_S = 5.0
"""A cluster of servers chooses its leaders."""


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        made = started(Path(folder))
        try:
            yield made
        finally:
            made.stop()


async def rates() -> list[float]:
    """Requests a second through publish, consume and reply; one agent, one consumer, each a process."""
    found = []
    async with server() as where:
        process = start_consumer([where], "consumer", 0.0, slots=256)
        try:
            async with Agent(where.url, "agent") as agent:
                gate = asyncio.Semaphore(AT_ONCE)

                async def one(number: int) -> None:
                    async with gate:
                        asked = job(number, "agent")
                        reply = await agent.ask(asked)
                        assert reply.body == answer(asked.body), reply

                for number in range(ROUNDS):
                    begun = time.perf_counter()
                    first = number * REQUESTS
                    await asyncio.gather(*(one(each) for each in range(first, first + REQUESTS)))
                    found.append(REQUESTS / (time.perf_counter() - begun))
        finally:
            process.kill()
            process.wait()
    return found


async def overtaking() -> list[float]:
    """Milliseconds from the moment that the one slot is free, with patient requests waiting, to the beginning
    of an urgent one that came before it."""
    begun: dict[str, float] = {}
    ended: list[float] = []

    async def handle(asked: Job, attempt: int) -> str:
        begun[asked.body] = time.perf_counter()
        await asyncio.sleep(WORK_S)
        ended.append(time.perf_counter())
        return answer(asked.body)

    found = []
    async with server() as where, Agent(where.url, "agent") as agent:
        patient = [asyncio.create_task(agent.ask(job(number, "agent", 2))) for number in range(WAITING)]
        await asyncio.sleep(2.0)
        async with Consumer(where.url, GROUP, handle, slots=1):
            for number in range(WAITING, WAITING + URGENT):
                await asyncio.sleep(0.1)
                asked = job(number, "agent", 0)
                await agent.ask(asked)
                start = begun[asked.body]
                found.append((start - max(each for each in ended if each < start)) * 1000)
            for each in patient:
                each.cancel()
    return found


async def killed(count: int) -> dict[str, object]:
    """What comes of 10,000 requests while servers and consumers are killed."""
    with tempfile.TemporaryDirectory() as folder:
        servers = cluster(Path(folder)) if count == 3 else [Server(Path(folder))]
        try:
            for each in servers:
                each.start()
            await asyncio.sleep(SETTLE_S if count == 3 else 0.0)
            return asdict(await play(servers, Plan()))
        finally:
            for each in servers:
                each.stop()


def section(found: dict[str, object]) -> str:
    """The lines of the page."""
    about = machine()
    told = [
        f"`python benchmarks/bench_broker.py --write docs/broker.md` on {about['cores']} cores "
        f"({about['processor']}), which agent, consumers and servers share:",
        "",
        "| | |",
        "| --- | --- |",
        f"| requests a second, publish to answer ({ROUNDS} rounds of {REQUESTS:,}) | {found['rates']} |",
        f"| an urgent request before {WAITING:,} patient ones begins after the slot is free, median ms "
        f"| {found['overtaking_p50_ms']} |",
        f"| the same, slowest of {URGENT}, ms | {found['overtaking_max_ms']} |",
        "",
        "| servers | requests | answered | lost | wrong | twice | servers killed | consumers killed | s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in (("one", found["one"]), ("three, every stream on all", found["three"])):
        assert isinstance(one, dict)
        told.append(
            f"| {name} | {Plan().requests:,} | {one['answered']:,} | {one['lost']} | {one['wrong']} "
            f"| {one['twice']} | {one['servers_killed']} | {one['consumers_killed']} | {one['seconds']:.0f} |"
        )
    return "\n".join(told)


async def measure() -> dict[str, object]:
    """Everything, one after another."""
    fast, urgent = await rates(), await overtaking()
    return {
        "rates": ", ".join(f"{each:,.0f}" for each in fast),
        "overtaking_p50_ms": round(float(np.median(urgent)), 1),
        "overtaking_max_ms": round(max(urgent), 1),
        "one": await killed(1),
        "three": await killed(3),
    }


if __name__ == "__main__":
    made = asyncio.run(measure())
    tell(made)
    if sys.argv[1:2] == ["--write"]:
        written(Path(sys.argv[2]), "benchmarks/bench_broker.py", section(made))
