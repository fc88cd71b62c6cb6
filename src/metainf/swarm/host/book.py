"""The directory as a process sees it: read again and again, and written to."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping

from metainf.domain import BadInput
from metainf.swarm.net.directory import (
    GUESTS,
    NODES,
    REFRESH_S,
    Directory,
    DirectoryLost,
    nodes,
    trusted,
)
from metainf.swarm.trust.certificates import Certified
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.signing import Envelope, Heard, unseal
from metainf.swarm.words import Announcement


class Book:
    """The directory as this process last read it."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.records: Mapping[str, bytes] = {}
        self.heard: list[Heard] = []

    async def look(self) -> list[Heard]:
        """Read it anew; the nodes that are to be believed."""
        self.records = await self.directory.records()
        self.heard = nodes(self.records, time.time())
        return self.heard

    def trusted(self) -> bytes:
        """PEM certificates of all who may connect."""
        return trusted(self.records, time.time())


def ages_s(records: Mapping[str, bytes], now_s: float, me: str = "") -> list[float]:
    """How long ago other nodes say that they wrote; also of records that are not believed for their time."""
    found = []
    for key, record in records.items():
        if key.startswith(NODES) and key != f"{NODES}{me}" and (word := signed_word(record)) is not None:
            found.append(now_s - word.issued_s)
    return found


def signed_word(record: bytes) -> Announcement | None:
    """The announcement in a record whatever its time; None where its node did not sign it."""
    with contextlib.suppress(BadInput, KeyError, ValueError, TypeError, RecursionError):
        issued_s = float(json.loads(Envelope.parse(record).payload)["issued_s"])
        return unseal(record, issued_s).word
    return None


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not longer than until `stop`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def keep_reading(book: Book, stop: asyncio.Event, every_s: float = 1.0) -> None:
    """Know new guests and nodes soon after they came."""
    while not stop.is_set():
        with contextlib.suppress(DirectoryLost):
            await book.look()
        await pause(stop, every_s)


async def guest(book: Book, mine: Certified, identity: Identity, stop: asyncio.Event) -> None:
    """Leave one's certificate in the directory until told to stop, so that nodes let one in. A lost directory
    is tried again."""
    key = f"{GUESTS}{identity.node}"
    while not stop.is_set():
        with contextlib.suppress(DirectoryLost):
            await book.directory.put(key, mine.der)
            await book.look()
        await pause(stop, REFRESH_S)
    with contextlib.suppress(DirectoryLost):
        await book.directory.remove(key)
