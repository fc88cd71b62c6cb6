"""What a swarm looks like from here: its directory is read once, and the way to each node is timed."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from metainf.swarm.net.directory import GUESTS, NODES, Directory, nodes
from metainf.swarm.plan.coverage import SwarmState, swarm_state
from metainf.swarm.words import Announcement, Demand

CONNECT_S = 2.0
MOST_AT_ONCE = 256
"""Connections that are timed at the same time."""


@dataclass(frozen=True)
class Look:
    """What the directory held at one moment, and the milliseconds to each node (None for one that was not
    reached)."""

    at_s: float
    words: tuple[Announcement, ...]
    rtt_ms: dict[str, float | None]
    guests: int
    refused: int

    def state(self, demand: Demand) -> SwarmState:
        """The state, with the route expected for such a request. A node to which no connection could be made
        is in no route."""
        reached = {node: took for node, took in self.rtt_ms.items() if took is not None}
        gone = [node for node, took in self.rtt_ms.items() if took is None]
        found = swarm_state(self.words, demand, self.at_s, reached, avoid=gone)
        return found.model_copy(update={"guests": self.guests, "refused": self.refused})


async def look(directory: Directory) -> Look:
    """Read and measure, CONNECT_S at most for each node. Raises DirectoryLost."""
    records = await directory.records()
    now_s = time.time()
    words = tuple(each.word for each in nodes(records, now_s))
    times = dict(zip([word.node for word in words], await _all(words), strict=True))
    told = sum(key.startswith(NODES) for key in records)
    guests = sum(key.startswith(GUESTS) for key in records)
    return Look(now_s, words, times, guests, told - len(words))


async def state(directory: Directory, demand: Demand) -> SwarmState:
    """Read, measure and tell. Raises DirectoryLost."""
    return (await look(directory)).state(demand)


async def _all(words: tuple[Announcement, ...]) -> list[float | None]:
    places = asyncio.Semaphore(MOST_AT_ONCE)

    async def one(word: Announcement) -> float | None:
        async with places:
            return await _round_trip(word.address)

    return list(await asyncio.gather(*map(one, words)))


async def _round_trip(address: str) -> float | None:
    """Milliseconds until a TCP connection stands, which takes one round trip; None where it does not."""
    host, _, port = address.rpartition(":")
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, ValueError, TimeoutError):
        return None
    took = (time.perf_counter() - begun) * 1000
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return took
