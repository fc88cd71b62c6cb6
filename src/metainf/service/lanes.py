"""Work that takes time leaves the event loop for a lane: one thread, with a short queue before it.

Predicting and reading records hold Python's lock, so more threads for one kind of work would finish no
sooner; more processes do (`metainf serve --workers`).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from metainf.api.problems import refusal

T = TypeVar("T")
MOST_KEPT = 4096
MOST_KEPT_BYTES = 64 * 1024 * 1024


class Lane:
    """One thread; at most `most_waiting` pieces of work wait for it, more are refused with 503."""

    def __init__(self, name: str, most_waiting: int) -> None:
        self.name, self._most = name, most_waiting
        self.waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of a piece of work. Raises what it raises, or Refused where too much waits."""
        if self.waiting >= self._most:
            raise refusal(
                "busy",
                503,
                "Too much to do",
                f"{self.waiting} requests wait for {self.name}: ask again later",
            )
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Drop what waits; what runs is left to end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Answers:
    """Answers to questions that are asked again: the same question has the same answer.

    The newest answers are kept, and a question that is being answered is not worked on twice.
    """

    def __init__(self, lane: Lane, counted: Callable[[bool], None] = lambda _: None) -> None:
        self._lane, self._counted = lane, counted
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._coming: dict[bytes, asyncio.Future[bytes]] = {}

    def known(self, key: bytes) -> bytes | None:
        """The answer to the question of this key, where it was given before."""
        known = self._kept.get(key)
        self._counted(known is not None)
        if known is not None:
            self._kept.move_to_end(key)
        return known

    async def get(self, key: bytes, make: Callable[[], bytes]) -> bytes:
        """The answer to a question, known or not."""
        found = self.known(key)
        return await self.make(key, make) if found is None else found

    async def make(self, key: bytes, make: Callable[[], bytes]) -> bytes:
        """The answer to a question that is not known. Errors are raised to all who wait, and not kept."""
        coming = self._coming.get(key)
        if coming is None:
            coming = asyncio.ensure_future(self._lane.run(make))
            self._coming[key] = coming
            coming.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(coming)

    def _done(self, key: bytes, done: "asyncio.Future[bytes]") -> None:
        self._coming.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[key] = done.result()
        self._size += len(key) + len(done.result())
        while self._kept and (len(self._kept) > MOST_KEPT or self._size > MOST_KEPT_BYTES):
            gone, oldest = self._kept.popitem(last=False)
            self._size -= len(gone) + len(oldest)
