"""The directory in NATS: a key-value bucket of JetStream, whose entries expire by themselves.

A member holds a copy of the bucket, which the server keeps up to date: reading asks nobody. The server says
what was put, what was removed and what has expired.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from metainf.domain import MissingExtra
from metainf.swarm.net.ending import ended
from metainf.swarm.net.records import (
    LIFETIME_S,
    MOST_RECORD_BYTES,
    MOST_RECORDS,
    REFRESH_S,
    DirectoryLost,
    checked,
)
from metainf.swarm.net.servers import Servers, opened, shown

CONNECT_S, ASK_S = 5.0, 3.0
FIRST_WAIT_S, MOST_WAIT_S = 0.25, 8.0
MOST_BEHIND = 3


def wait_s(tries: int, chance: float) -> float:
    """Seconds before the next attempt to connect: twice as long each time, and never in step with others."""
    return min(MOST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries, 10)) * (0.5 + chance / 2)


class Copy:
    """What is known of the bucket: records by key, each with its revision and the instant it goes."""

    def __init__(self, lifetime_s: float) -> None:
        self.lifetime_s = lifetime_s
        self.revision = 0
        self._kept: dict[str, tuple[int, float, bytes]] = {}

    def heard(self, key: str, revision: int, record: bytes | None, now_s: float) -> None:
        """The server says that something was put, or (None) is gone. Older news than what is known changes
        nothing."""
        self.revision = max(self.revision, revision)
        self.put(key, revision, record, now_s)

    def put(self, key: str, revision: int, record: bytes | None, now_s: float) -> None:
        """One's own word was taken. It is no news: `revision` is that of the last thing heard."""
        if revision > self._kept.get(key, (-1, 0.0, b""))[0]:
            self._kept[key] = (revision, now_s + self.lifetime_s, record or b"")

    def caught_up(self, revision: int) -> None:
        """All that is left of what was said until then has been heard."""
        self.revision = max(self.revision, revision)

    def removed(self, key: str, now_s: float) -> None:
        """One's own record was taken back, after all that is known of it."""
        self.put(key, self._kept.get(key, (0, 0.0, b""))[0] + 1, None, now_s)

    def restarted(self) -> None:
        """Revisions begin anew: the records stay until their time is up or they are heard anew."""
        self.revision = 0
        self._kept = {key: (0, until_s, record) for key, (_, until_s, record) in self._kept.items()}

    def records(self, now_s: float) -> dict[str, bytes]:
        """Those whose time is not up, the `MOST_RECORDS` newest."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept[1] > now_s}
        live = [(key, kept) for key, kept in self._kept.items() if kept[2]]
        if len(live) > MOST_RECORDS:
            live = sorted(live, key=lambda each: each[1][1])[-MOST_RECORDS:]
        return {key: record for key, (_, _, record) in live}


class NatsDirectory:
    """A member of the bucket. It reconnects for ever, and makes the bucket anew where the server lost it."""

    def __init__(self, connection: Any, servers: Servers, lifetime_s: float) -> None:
        self._connection, self._servers, self._copy = connection, servers, Copy(lifetime_s)
        self._stream = connection.jetstream(timeout=ASK_S)
        self._bucket: Any = None
        self._following: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._heard_s = time.monotonic()
        self._made: Any = None

    @classmethod
    async def join(cls, url: str, lifetime_s: float = LIFETIME_S) -> "NatsDirectory":
        """Connect; make the bucket where it is not there. Raises BadInput, DirectoryLost, MissingExtra."""
        try:
            import nats  # noqa: F401
        except ImportError:
            raise MissingExtra("the directory of the swarm", "swarm") from None
        servers = Servers.parse(url)
        connection = await _connected(servers)
        made = cls(connection, servers, lifetime_s)
        try:
            await made._follow()
        except Exception as error:  # the library raises many kinds
            with contextlib.suppress(Exception):  # it may be broken already
                await connection.close()
            raise DirectoryLost(
                f"expected NATS of version 2.11 or later with JetStream, three servers of one cluster or one "
                f"server, at {shown(url)}: {error!r}"
            ) from None
        made._tending = asyncio.create_task(made._tend())
        return made

    async def put(self, key: str, record: bytes) -> None:
        checked(key, record)
        self._connected()
        revision = await self._asked(self._bucket.put(key, record))
        self._copy.put(key, revision, record, time.monotonic())

    async def remove(self, key: str) -> None:
        checked(key)
        self._connected()
        await self._asked(self._bucket.purge(key))
        self._copy.removed(key, time.monotonic())

    async def records(self) -> Mapping[str, bytes]:
        now_s = time.monotonic()
        if now_s - self._heard_s > self._copy.lifetime_s + REFRESH_S / 3:
            self._connected()  # a process that was busy for so long has only not listened
            await self._asked(self._follow())
            self._heard_s = now_s = time.monotonic()
        return self._copy.records(now_s)

    async def close(self) -> None:
        await ended(self._tending)  # first, since it may begin to follow anew
        await ended(self._following)
        with contextlib.suppress(Exception):  # it may be gone already
            await self._connection.close()

    async def _follow(self) -> None:
        """Make the bucket where it is not there, and hear all of it and what follows."""
        bucket = await self._opened()
        told = await self._told()
        watcher = await bucket.watchall()
        while (entry := await watcher.updates(ASK_S)) is not None:
            self._hear(entry)
        if told is not None:
            self._copy.caught_up(told.state.last_seq)
        before, self._bucket = self._following, bucket
        self._made = told.created if told is not None else None
        self._following = asyncio.create_task(self._hear_on(watcher))
        if before is not None:
            before.cancel()

    async def _opened(self) -> Any:
        """The bucket, made where it is not there. One that is there keeps as many replicas as it has."""
        from nats.js.api import KeyValueConfig, StorageType
        from nats.js.errors import BadRequestError

        def config(replicas: int) -> KeyValueConfig:
            return KeyValueConfig(
                bucket=self._servers.bucket,
                ttl=self._copy.lifetime_s,
                history=1,
                storage=StorageType.MEMORY,
                max_value_size=MOST_RECORD_BYTES,
                limit_marker_ttl=max(1.0, self._copy.lifetime_s),
                replicas=replicas,
            )

        try:
            return await self._stream.create_key_value(config(self._servers.replicas))
        except BadRequestError:
            told = await self._told()
            if told is None or told.config.num_replicas == self._servers.replicas:
                raise
            return await self._stream.create_key_value(config(told.config.num_replicas))

    async def _hear_on(self, watcher: Any) -> None:
        try:
            async for entry in watcher:
                if entry is not None:
                    self._hear(entry)
        finally:
            with contextlib.suppress(Exception):  # the server may have forgotten it
                await watcher.stop()

    def _hear(self, entry: Any) -> None:
        record = None if entry.operation else entry.value
        self._copy.heard(entry.key, entry.revision, record, time.monotonic())

    async def _tend(self) -> None:
        """Notice servers that have forgotten the bucket or what was in it, or news that do not arrive, and
        begin anew."""
        behind = 0
        while True:
            await asyncio.sleep(REFRESH_S / 3)
            if not self._connection.is_connected:
                continue
            try:
                known = self._copy.revision
                told = await self._told()
                anew = told is None or told.created != self._made or told.state.last_seq < known
                behind = behind + 1 if told and told.state.last_seq > self._copy.revision else 0
                if anew:
                    self._copy.restarted()
                if anew or behind >= MOST_BEHIND:
                    await self._follow()
                self._heard_s = time.monotonic()
            except Exception:  # a server that goes away in between: it is asked again
                continue

    async def _told(self) -> Any:
        """What the server says of the bucket; None where it has no such bucket (any more)."""
        from nats.js.errors import NotFoundError

        try:
            return await self._stream.stream_info(f"KV_{self._servers.bucket}")
        except NotFoundError:
            return None

    def _connected(self) -> None:
        if not self._connection.is_connected:
            silent_s = time.monotonic() - self._heard_s
            where = ", ".join(map(shown, self._servers.urls))
            raise DirectoryLost(f"NATS at {where} does not answer, last heard {silent_s:.0f} s ago")

    async def _asked(self, waiting: Any) -> Any:
        try:
            return await asyncio.wait_for(waiting, ASK_S)
        except Exception as error:  # many kinds: timeouts, no responders, closed connections
            raise DirectoryLost(f"the directory does not answer: {error!r}") from None


async def _connected(servers: Servers) -> Any:
    """A connection that, once made, is made again for ever. Raises DirectoryLost where none can be made."""
    from nats.errors import Error

    failed: list[str] = []
    enough = asyncio.Event()

    async def failing(error: Exception) -> None:
        failed.append(f"{error!r}")
        if len(failed) >= len(servers.urls):
            enough.set()

    def again(pool: Sequence[Any], _: Mapping[str, Any]) -> tuple[Any, float]:
        chosen = min(pool, key=lambda each: each.reconnects)
        return chosen, wait_s(chosen.reconnects, random.random())

    connecting = asyncio.create_task(
        opened(
            servers,
            error_cb=failing,
            connect_timeout=CONNECT_S,
            max_reconnect_attempts=-1,
            reconnect_time_wait=FIRST_WAIT_S,
            ping_interval=5,
            reconnect_to_server_handler=again,
        )
    )
    giving_up = asyncio.create_task(enough.wait())
    await asyncio.wait({connecting, giving_up}, timeout=CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
    giving_up.cancel()
    where = ", ".join(map(shown, servers.urls))
    if not connecting.done():
        connecting.cancel()
        raise DirectoryLost(f"expected a NATS server at {where}: {failed[-1] if failed else 'no answer'}")
    try:
        return connecting.result()
    except (TimeoutError, Error, OSError) as error:
        raise DirectoryLost(f"expected a NATS server at {where}: {error!r}") from None
