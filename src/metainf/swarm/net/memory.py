"""A directory within one process: what swarms in one process and tests use."""

import time
from collections.abc import Callable, Mapping

from metainf.swarm.net.records import LIFETIME_S, DirectoryLost, checked


class MemoryDirectory:
    """One member's view of a dictionary that all members share. `now_s` is any clock that goes forward."""

    def __init__(self, lifetime_s: float = LIFETIME_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self.lifetime_s, self._now_s = lifetime_s, now_s
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._closed = False

    def member(self) -> "MemoryDirectory":
        """Another member of the same directory."""
        other = MemoryDirectory(self.lifetime_s, self._now_s)
        other._kept = self._kept
        return other

    async def put(self, key: str, record: bytes) -> None:
        checked(key, record)
        self._open()
        self._kept[key] = (self._now_s() + self.lifetime_s, bytes(record))

    async def remove(self, key: str) -> None:
        checked(key)
        self._open()
        self._kept.pop(key, None)

    async def records(self) -> Mapping[str, bytes]:
        self._open()
        now_s = self._now_s()
        for key in [key for key, (until_s, _) in self._kept.items() if until_s <= now_s]:
            del self._kept[key]
        return {key: record for key, (_, record) in self._kept.items()}

    async def close(self) -> None:
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise DirectoryLost("this member has left the directory")
