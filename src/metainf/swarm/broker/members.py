"""Who serves: consumers announce themselves in a bucket of the server, whose entries expire by themselves."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, cast

from metainf.domain import BadInput
from metainf.swarm.broker.streams import MEMBER_S, MEMBERS, REQUESTS, BrokerLost
from metainf.swarm.broker.words import Member

AGAIN_S = 0.5
"""After a word that nobody took."""


async def bucket(stream: Any, replicas: int = 1, lifetime_s: float = MEMBER_S) -> Any:
    """The bucket, made where it is not there. Raises BrokerLost."""
    from nats.js.api import KeyValueConfig, StorageType

    config = KeyValueConfig(
        bucket=MEMBERS, ttl=lifetime_s, history=1, storage=StorageType.MEMORY, replicas=replicas
    )
    try:
        return await stream.create_key_value(config)
    except Exception as error:
        raise BrokerLost(f"the list of consumers cannot be made ready: {error!r}") from None


async def made_at(stream: Any) -> datetime:
    """When the bucket was made: it is another instant after a server was started again, which has lost it.
    Raises BrokerLost."""
    try:
        told = await stream.stream_info(f"KV_{MEMBERS}")
    except Exception as error:
        raise BrokerLost(f"the list of consumers cannot be read: {error!r}") from None
    return cast(datetime, told.created)


def key(member: Member) -> str:
    """Where a member stands."""
    return f"{member.group}.{member.name}"


async def members(kept: Any) -> list[Member]:
    """All who have announced themselves of late. What is no announcement, or another's, is passed over.
    Raises BrokerLost."""
    found: list[Member] = []
    try:
        watcher = await kept.watchall()
        try:
            while (entry := await watcher.updates(3.0)) is not None:
                if entry.operation or entry.value is None:
                    continue
                with contextlib.suppress(BadInput):
                    member = Member.parse(entry.value)
                    found += [member] if key(member) == entry.key else []
        finally:
            await watcher.stop()
    except Exception as error:
        raise BrokerLost(f"the list of consumers cannot be read: {error!r}") from None
    return found


async def announcing(
    kept: Any, opened: Callable[[], Awaitable[Any]], word: Callable[[], Member], every_s: float
) -> None:
    """Announce oneself again and again, in a bucket that is `opened` anew where a server has started without
    it; at the end the entry is taken back."""
    try:
        while True:
            try:
                await kept.put(key(word()), word().canonical().encode())
                await asyncio.sleep(every_s)
            except Exception:  # many kinds: a server that is away, or that lost what it had in memory
                await asyncio.sleep(AGAIN_S)
                with contextlib.suppress(BrokerLost):
                    kept = await opened()
    finally:
        with contextlib.suppress(Exception):
            await kept.purge(key(word()))


async def waiting_by_group(stream: Any) -> dict[str, int]:
    """Jobs of each group, those in work included. Raises BrokerLost."""
    try:
        told = await stream.stream_info(REQUESTS, subjects_filter="req.>")
    except Exception as error:
        raise BrokerLost(f"the queue does not answer: {error!r}") from None
    found: dict[str, int] = {}
    for name, count in (told.state.subjects or {}).items():
        group = name.split(".")[1]
        found[group] = found.get(group, 0) + int(count)
    return found
