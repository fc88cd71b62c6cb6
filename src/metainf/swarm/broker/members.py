"""Who serves: consumers announce themselves in a bucket of the server, whose entries expire by themselves."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, cast

from metainf.domain import BadInput
from metainf.swarm.broker.lengths import places
from metainf.swarm.broker.streams import ASK, MEMBER_S, MEMBERS, REQUESTS, BrokerLost
from metainf.swarm.broker.words import Member

AGAIN_S = 0.5
"""After a word that nobody took."""
MOST_MEMBERS = 10_000
"""Announcements that are read; who comes after them is not seen."""
MOST_WORD_BYTES, MOST_BUCKET_BYTES = 32_768, 64 * 2**20
"""Of one announcement, and of all of them in the server's memory."""


async def bucket(stream: Any, replicas: int = 1, lifetime_s: float = MEMBER_S) -> Any:
    """The bucket, made where it is not there; one with other limits stays as it is. Raises BrokerLost."""
    from nats.js.api import KeyValueConfig, StorageType
    from nats.js.errors import BadRequestError

    config = KeyValueConfig(
        bucket=MEMBERS,
        ttl=lifetime_s,
        history=1,
        storage=StorageType.MEMORY,
        replicas=replicas,
        max_value_size=MOST_WORD_BYTES,
        max_bytes=MOST_BUCKET_BYTES,
    )
    try:
        try:
            return await stream.create_key_value(config)
        except BadRequestError:
            return await stream.key_value(MEMBERS)
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
    """All who have announced themselves of late, of the first MOST_MEMBERS entries. What is no announcement,
    or another's, is passed over. Raises BrokerLost."""
    found, read = list[Member](), 0
    try:
        watcher = await kept.watchall()
        try:
            while read < MOST_MEMBERS and (entry := await watcher.updates(3.0)) is not None:
                read += 1
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
    """Jobs of each group, those in work included, and without what no consumer will read: subjects of another
    form. Raises BrokerLost."""
    try:
        told = await stream.stream_info(REQUESTS, subjects_filter=f"{ASK}.>")
    except Exception as error:
        raise BrokerLost(f"the queue does not answer: {error!r}") from None
    found: dict[str, int] = {}
    for (group, _, _), count in places(told.state.subjects or {}).items():
        found[group] = found.get(group, 0) + count
    return found
