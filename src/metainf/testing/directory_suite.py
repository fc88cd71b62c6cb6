"""What every directory of the swarm must do. Inherit `DirectorySuite` and give it `open_place`."""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from metainf.domain import BadInput
from metainf.swarm.net.records import MOST_RECORD_BYTES, Directory, DirectoryLost

T = TypeVar("T")
BEAT_S = 0.05


@dataclass
class Place:
    """An empty directory: `join` gives another member of it, `lose` makes it unreachable for all of them."""

    join: Callable[[], Awaitable[Directory]]
    lose: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    members: list[Directory] = field(default_factory=list)

    async def member(self) -> Directory:
        """One more."""
        self.members.append(await self.join())
        return self.members[-1]

    async def end(self) -> None:
        """All leave."""
        await asyncio.gather(*(each.close() for each in self.members))
        await self.close()


class Loop:
    """An event loop in a thread, in which members live for several tests."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, story: Coroutine[Any, Any, T], within_s: float = 90.0) -> T:
        """What the story gives."""
        return asyncio.run_coroutine_threadsafe(story, self.loop).result(within_s)

    def stop(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5.0)
        self.loop.close()


@dataclass
class Opened:
    """A place with two members."""

    loop: Loop
    place: Place
    a: Directory
    b: Directory

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """What the story gives."""
        return self.loop.run(story)


async def seen(
    directories: Sequence[Directory], wanted: Callable[[Mapping[str, bytes]], bool], within_s: float
) -> float:
    """Seconds until all of them see what is wanted; fails where they do not in time."""
    begun = time.monotonic()
    while True:
        held = [await each.records() for each in directories]
        if all(wanted(records) for records in held):
            return time.monotonic() - begun
        assert time.monotonic() - begun < within_s, (
            f"not seen within {within_s} s: {[*map(len, held)]} records"
        )
        await asyncio.sleep(BEAT_S)


class DirectorySuite:
    """Put, seen, removed, expired, lost: on one directory with two members.

    `lifetime_s` is that of the place's records; what one member does, the other sees within `seen_s`.
    """

    lifetime_s = 2.0
    seen_s = 2.0
    _names = itertools.count()

    async def open_place(self, folder: Path) -> Place:
        """An empty directory whose files may lie in the folder."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
        loop = Loop()
        made = loop.run(cls()._opened(loop, tmp_path_factory.mktemp("directory")))
        yield made
        loop.run(made.place.end())
        loop.stop()

    async def _opened(self, loop: Loop, folder: Path) -> Opened:
        place = await self.open_place(folder)
        a, b = await asyncio.gather(place.member(), place.member())
        return Opened(loop, place, a, b)

    def key(self) -> str:
        """A key that no other test has used."""
        return f"node.suite-{next(self._names):04d}-{os.getpid()}"

    def test_what_one_puts_another_sees_and_the_last_word_counts(self, opened: Opened) -> None:
        key, both = self.key(), (opened.a, opened.b)

        async def story() -> None:
            for number, member in enumerate((opened.a, opened.a, opened.b, opened.a)):
                record = bytes(range(256)) + number.to_bytes(2, "big")
                await member.put(key, record)
                await seen(both, lambda held, record=record: held.get(key) == record, self.seen_s)  # type: ignore[misc]

        opened.run(story())

    def test_what_is_removed_is_gone_for_all_and_may_come_back(self, opened: Opened) -> None:
        key, other, both = self.key(), self.key(), (opened.a, opened.b)

        async def story() -> None:
            for round_ in (b"first", b"again"):
                await opened.b.put(other, b"stays")
                await opened.a.put(key, round_)
                await seen(both, lambda held, round_=round_: held.get(key) == round_, self.seen_s)  # type: ignore[misc]
                await opened.a.remove(key)
                await seen(both, lambda held: key not in held and other in held, self.seen_s)
                assert key not in await opened.a.records(), "its owner sees it at once"
            await opened.a.remove(self.key())  # was never there

        opened.run(story())

    def test_what_is_not_put_again_is_gone_a_lifetime_later_and_not_before(self, opened: Opened) -> None:
        left, kept, both = self.key(), self.key(), (opened.a, opened.b)

        async def story() -> None:
            leaver = await opened.place.member()
            begun = time.monotonic()
            await leaver.put(left, b"1")
            put = time.monotonic()
            await opened.a.put(kept, b"1")
            await seen(both, lambda held: left in held, self.seen_s)
            await leaver.close()  # as one that died: nothing is taken back
            while time.monotonic() - put < self.lifetime_s + 1.0:
                held = [await each.records() for each in both]
                if time.monotonic() - begun < self.lifetime_s - 0.2:
                    assert all(left in each for each in held)
                await asyncio.sleep(BEAT_S)
                await opened.a.put(kept, b"1")
            held = [await each.records() for each in both]
            assert not any(left in each for each in held), "a ghost"
            await seen(both, lambda held: kept in held, self.seen_s)

        opened.run(story())

    def test_what_no_directory_takes(self, opened: Opened) -> None:
        async def story() -> None:
            for key in (
                "",
                "node",
                "node.",
                "node.A",
                "node.a b",
                "node.*",
                ">",
                "node." + "a" * 65,
                "n.é00",
            ):
                with pytest.raises(BadInput, match="expected a key"):
                    await opened.a.put(key, b"1")
                with pytest.raises(BadInput, match="expected a key"):
                    await opened.a.remove(key)
            for record in (b"", bytes(MOST_RECORD_BYTES + 1)):
                with pytest.raises(BadInput, match="expected a record of 1 to"):
                    await opened.a.put(self.key(), record)
            key, largest = self.key(), os.urandom(MOST_RECORD_BYTES)
            await opened.a.put(key, largest)
            await seen((opened.a, opened.b), lambda held: held.get(key) == largest, self.seen_s)

        opened.run(story())

    def test_many_at_once(self, opened: Opened) -> None:
        keys = [self.key() for _ in range(200)]

        async def story() -> None:
            for part in range(0, 200, 50):
                ours = (
                    (opened.a, opened.b)[at % 2].put(keys[at], keys[at].encode() * 80)
                    for at in range(part, part + 50)
                )
                await asyncio.gather(*ours)
            held = await asyncio.gather(*(self._ever(each, keys) for each in (opened.a, opened.b)))
            assert all(each == {key: key.encode() * 80 for key in keys} for each in held)

        opened.run(story())

    async def _ever(self, member: Directory, keys: Sequence[str]) -> dict[str, bytes]:
        """What a member saw of the keys, at whatever instant: on a slow machine the first may be gone before
        the last is there."""
        found: dict[str, bytes] = {}
        end = time.monotonic() + self.seen_s
        while time.monotonic() < end and len(found) < len(keys):
            held = await member.records()
            found |= {key: held[key] for key in keys if key in held}
            await asyncio.sleep(BEAT_S)
        return found

    def test_two_who_put_the_same_key_at_once_end_up_with_one_word(self, opened: Opened) -> None:
        key = self.key()

        async def story() -> None:
            words = [f"{name} {number}".encode() for number in range(10) for name in "ab"]
            await asyncio.gather(
                *((opened.a, opened.b)[at % 2].put(key, word) for at, word in enumerate(words))
            )
            await asyncio.sleep(min(self.seen_s, self.lifetime_s) / 2)
            held = [(await each.records()).get(key) for each in (opened.a, opened.b)]
            assert held[0] == held[1] and held[0] in words

        opened.run(story())

    def test_a_directory_that_is_lost(self, tmp_path: Path) -> None:
        key = self.key()

        async def story() -> None:
            place = await self.open_place(tmp_path)
            member = await place.member()
            await member.put(key, b"1")
            await place.lose()
            begun = time.monotonic()
            with pytest.raises(DirectoryLost):
                while time.monotonic() - begun < 15.0:  # a broken connection may be noticed late
                    await member.put(key, b"2")
                    await asyncio.sleep(BEAT_S)
            with pytest.raises(DirectoryLost):
                while time.monotonic() - begun < self.lifetime_s + 15.0:
                    await member.records()
                    await asyncio.sleep(BEAT_S)
            with pytest.raises(DirectoryLost):
                await member.remove(key)
            await place.end()

        asyncio.run(story())
