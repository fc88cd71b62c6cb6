"""What a swarm looks like from here: its directory is read once, and the way to each node is timed."""

import asyncio
import time
from collections.abc import Callable, Collection

from metainf.swarm.host.pings import round_trip_ms
from metainf.swarm.net.directory import GUESTS, NODES, Directory, nodes
from metainf.swarm.plan.coverage import SwarmState, swarm_state
from metainf.swarm.plan.routing import Client
from metainf.swarm.trust.reputation_store import Believed
from metainf.swarm.words import Announcement, Demand

CONNECT_S = 2.0
Believe = Callable[[Collection[str]], Believed]


async def state(directory: Directory, demand: Demand, believe: Believe | None = None) -> SwarmState:
    """Read and measure. A node to which no connection can be made within CONNECT_S is in no route; what
    `believe` gives for names counts as it does for a session that has these reputations. Raises
    DirectoryLost."""
    records = await directory.records()
    now_s = time.time()
    words = [each.word for each in nodes(records, now_s)]
    times = dict(zip([word.node for word in words], await _all(words), strict=True))
    rtt_ms = {node: took for node, took in times.items() if took is not None}
    known = believe(times) if believe is not None else Believed()
    client = Client(rtt_ms, known.reputation, known.quarantined, known.on_trial)
    found = swarm_state(words, demand, now_s, client, [n for n, took in times.items() if took is None])
    told = sum(key.startswith(NODES) for key in records)
    guests = sum(key.startswith(GUESTS) for key in records)
    return found.model_copy(update={"guests": guests, "refused": told - len(words)})


async def _all(words: list[Announcement]) -> list[float | None]:
    return list(await asyncio.gather(*(_round_trip(word.address) for word in words)))


async def _round_trip(address: str) -> float | None:
    """Milliseconds of a TCP connection; None where there is none."""
    try:
        return await round_trip_ms(address, CONNECT_S)
    except (OSError, ValueError, TimeoutError):
        return None
