"""Keys and values of the sessions of a node, and the memory that they may take."""

import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metainf.domain import BadInput

STEP_TOKENS = 64
"""A cache grows by whole pieces of so many positions."""
MOST_SESSIONS = 256
SHARE = 0.5
"""Of the memory that is free once the weights are loaded: caches may take so much, passes need the rest."""
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
STATUS = Path("/proc/self/status")


class NoRoom(BadInput):
    """The node holds as many sessions or tokens as it may."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it tells that memory could not be had. PyTorch says so on a CPU with a plain RuntimeError."""
    if isinstance(error, MemoryError):
        return True
    told = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in told
        or "not enough memory" in told
        or type(error).__name__ == "OutOfMemoryError"
    )


@dataclass
class Room:
    """Bytes of all caches of a node: those it may hold, those it holds. Not for several threads."""

    limit: int
    held: int = 0
    sessions: int = 0

    def take(self, wanted: int) -> None:
        """Raises NoRoom."""
        if self.held + wanted > self.limit:
            raise NoRoom(
                f"expected at most {self.limit:,} bytes in all caches: {self.held:,} are held, "
                f"{wanted:,} more are needed"
            )
        self.held += wanted

    def give(self, back: int) -> None:
        self.held -= back


@dataclass(frozen=True)
class Layout:
    """What a cache keeps of each position: in `layers` layers, keys and values of `heads` heads, of `width`
    numbers each."""

    layers: int
    heads: int
    width: int
    dtype: Any
    item_bytes: int

    @property
    def token_bytes(self) -> int:
        return 2 * self.layers * self.heads * self.width * self.item_bytes


@dataclass
class Cache:
    """Keys and values of one session, [layers, heads, capacity, width] each; the first `length` positions are
    filled. What a pass writes behind them counts only when `length` is moved."""

    layout: Layout
    room: Room
    length: int = 0
    capacity: int = 0
    keys: Any = field(default=None, repr=False)
    values: Any = field(default=None, repr=False)

    def reserve(self, tokens: int) -> None:
        """Make sure that `tokens` more positions fit. While a cache grows, the old one is held beside it.

        Raises NoRoom where the budget or the machine's memory does not allow it; the cache is as before.
        """
        wanted = self.length + tokens
        if wanted <= self.capacity:
            return None
        for capacity in (_pieces(max(wanted, self.capacity * 3 // 2)), wanted):
            try:
                return self._moved(capacity)
            except NoRoom as error:
                refused = error
        raise refused

    def _moved(self, capacity: int) -> None:
        import torch

        layout, old = self.layout, self.capacity * self.layout.token_bytes
        new = capacity * layout.token_bytes
        self.room.take(new)
        try:
            shape = (layout.layers, layout.heads, capacity, layout.width)
            keys, values = (torch.empty(shape, dtype=layout.dtype) for _ in range(2))
        except (MemoryError, RuntimeError) as error:
            self.room.give(new)
            if is_out_of_memory(error):
                raise NoRoom(f"out of memory: {new:,} bytes for a cache cannot be had") from None
            raise
        if self.length:
            keys[:, :, : self.length] = self.keys[:, :, : self.length]
            values[:, :, : self.length] = self.values[:, :, : self.length]
        self.keys, self.values, self.capacity = keys, values, capacity
        self.room.give(old)

    def drop(self) -> None:
        """Give the memory back."""
        self.room.give(self.capacity * self.layout.token_bytes)
        self.keys = self.values = None
        self.length = self.capacity = 0


def _pieces(tokens: int) -> int:
    return -(-tokens // STEP_TOKENS) * STEP_TOKENS


def budget(free_bytes: int, share: float = SHARE) -> int:
    """Bytes that caches may take of the memory that is free. Raises BadInput where the share is none."""
    if not 0 < share <= 1:
        raise BadInput(f"expected a share of the free memory within (0, 1], found {share}")
    return int(free_bytes * share)


def free_bytes() -> int:
    """Memory that this process can still have: the least of what the machine, its control group and its own
    limit leave."""
    found = [_line(MEMINFO, "MemAvailable:"), _group_left(CGROUP)]
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        found.append(max(0, soft - (_line(STATUS, "VmSize:") or 0)))
    known = [each for each in found if each is not None]
    if not known:
        raise BadInput("the free memory of this system is not known: say how many bytes caches may take")
    return min(known)


def _line(path: Path, name: str) -> int | None:
    """The bytes that a line such as `MemAvailable:  123 kB` tells."""
    try:
        told = path.read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith(name)), None)


def _group_left(folder: Path) -> int | None:
    """What the control group may still take; None where it has no limit."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii")
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))
