"""Three NATS servers for tests: when they are ready, and when all of a stream is on all of them."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from metainf.swarm.broker.streams import connected
from metainf.swarm.host.nats import Server

WITHIN_S = 90.0


def urls_of(servers: list[Server]) -> str:
    """One URL of them all."""
    return ",".join(each.url for each in servers)


async def ready(servers: list[Server]) -> Any:
    """A connection to all of them, once they have chosen who leads."""
    connection = await connected(urls_of(servers), "first")
    while True:
        with contextlib.suppress(Exception):  # nobody leads yet
            await connection.jetstream(timeout=0.5).account_info()
            return connection
        await asyncio.sleep(0.05)


async def until(servers: list[Server], stream: str, right: Callable[[Any], bool]) -> Any:
    """What the servers say of a stream, once it is right."""
    connection, begun, told = await ready(servers), time.monotonic(), None
    while True:
        with contextlib.suppress(Exception):  # nobody leads it at the moment
            told = await connection.jetstream(timeout=1).stream_info(stream)
            if right(told):
                await connection.close()
                return told
        assert time.monotonic() - begun < WITHIN_S, told
        await asyncio.sleep(0.1)


def whole(told: Any) -> bool:
    """Whether a stream is led, and two others have all of it."""
    found = told.cluster.replicas or []
    return bool(told.cluster.leader) and len(found) == 2 and all(e.current and not e.offline for e in found)
