"""What a swarm looks like from here: its directory is read once, and the way to each node is timed."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from metainf.swarm.host.pings import round_trip_ms
from metainf.swarm.net.directory import GUESTS, NODES, Directory, nodes
from metainf.swarm.plan.coverage import SwarmState, swarm_state
from metainf.swarm.plan.routing import Client
from metainf.swarm.trust.reputation_store import Believed
from metainf.swarm.words import Announcement, Demand

CONNECT_S, AGAIN_S = 2.0, 2.5
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

    def state(self, demand: Demand, known: Believed | None = None) -> SwarmState:
        """The state, with the route expected for such a request. A node to which no connection could be made
        is in no route; what is `known` of others counts as it does for a session with these reputations."""
        known = known or Believed()
        reached = {node: took for node, took in self.rtt_ms.items() if took is not None}
        gone = [node for node, took in self.rtt_ms.items() if took is None]
        client = Client(reached, known.reputation, known.quarantined, known.on_trial)
        found = swarm_state(self.words, demand, self.at_s, client, gone)
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


Believe = Callable[[Collection[str]], Believed]


async def state(directory: Directory, demand: Demand, believe: Believe | None = None) -> SwarmState:
    """Read, measure and tell; `believe` gives what is known of names. Raises DirectoryLost."""
    seen = await look(directory)
    if not seen.words:  # a member of a hash table hears of the others in rounds
        await asyncio.sleep(AGAIN_S)
        seen = await look(directory)
    return seen.state(demand, None if believe is None else believe(seen.rtt_ms))


async def _all(words: tuple[Announcement, ...]) -> list[float | None]:
    places = asyncio.Semaphore(MOST_AT_ONCE)

    async def one(word: Announcement) -> float | None:
        async with places:
            return await _round_trip(word.address)

    return list(await asyncio.gather(*map(one, words)))


async def _round_trip(address: str) -> float | None:
    """Milliseconds of a TCP connection; None where there is none."""
    try:
        return await round_trip_ms(address, CONNECT_S)
    except (OSError, ValueError, TimeoutError):
        return None
