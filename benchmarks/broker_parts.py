"""A consumer in a process of its own, and requests, for the queue's benchmark and its tests.

python benchmarks/broker_parts.py URL GROUP NAME SLOTS WORK_S [REPLICAS]
"""

import asyncio
import hashlib
import sys
import time

from metainf.swarm.broker.consumer import Consumer
from metainf.swarm.broker.words import Job, Priority

GROUP = "group"


def job(
    number: int, agent: str, priority: Priority = 1, tenant: str = "tenant", within_s: float = 120.0
) -> Job:
    """A small request; its answer is its body turned round."""
    now = time.time()
    return Job(
        transaction=f"sha256:{hashlib.sha256(f'{agent} {number}'.encode()).hexdigest()}",
        agent=agent,
        tenant=tenant,
        group=GROUP,
        priority=priority,
        issued_s=now,
        deadline_s=now + within_s,
        body=f"request {number}",
    )


def answer(body: str) -> str:
    return body[::-1]


async def serve(url: str, group: str, name: str, slots: int, work_s: float, replicas: int) -> None:
    async def handle(asked: Job, attempt: int) -> str:
        if work_s:
            await asyncio.sleep(work_s)
        return answer(asked.body)

    async with Consumer(url, group, handle, slots, name, replicas):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    where, whose, who, places, work, *copies = sys.argv[1:]
    asyncio.run(serve(where, whose, who, int(places), float(work), int(copies[0]) if copies else 1))
