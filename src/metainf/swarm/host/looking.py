"""What a swarm looks like from here: its directory is read once, and the way to each node is timed."""

import asyncio
import contextlib
import time

from metainf.swarm.net.directory import GUESTS, NODES, Directory, nodes
from metainf.swarm.plan.coverage import SwarmState, swarm_state
from metainf.swarm.words import Announcement, Demand

CONNECT_S = 2.0


async def state(directory: Directory, demand: Demand) -> SwarmState:
    """Read and measure. A node to which no connection can be made within CONNECT_S is in no route. Raises
    DirectoryLost."""
    records = await directory.records()
    now_s = time.time()
    words = [each.word for each in nodes(records, now_s)]
    times = dict(zip([word.node for word in words], await _all(words), strict=True))
    rtt_ms = {node: took for node, took in times.items() if took is not None}
    found = swarm_state(words, demand, now_s, rtt_ms, avoid=[n for n, took in times.items() if took is None])
    told = sum(key.startswith(NODES) for key in records)
    guests = sum(key.startswith(GUESTS) for key in records)
    return found.model_copy(update={"guests": guests, "refused": told - len(words)})


async def _all(words: list[Announcement]) -> list[float | None]:
    return list(await asyncio.gather(*(_round_trip(word.address) for word in words)))


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
