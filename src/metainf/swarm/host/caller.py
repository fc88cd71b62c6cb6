"""A caller's place in a swarm: the directory as last read, and the nodes that let one in.

A node learns of a new guest when it reads the directory the next time, so a caller knocks until it is let in,
and only nodes that did are shown to sessions. What is read and opened is shared by all sessions.
"""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metainf.domain import NoFeasible
from metainf.swarm.host.book import guest, pause
from metainf.swarm.host.flights import Flight
from metainf.swarm.host.knocking import gaps, knocked, served, whole
from metainf.swarm.host.pings import Pings
from metainf.swarm.host.scheduling import Asking, Circle, Scheduler
from metainf.swarm.host.wishing import wishing
from metainf.swarm.net.client import Channels
from metainf.swarm.net.completing import Replica as Asked
from metainf.swarm.net.completing import ReplicaFailed
from metainf.swarm.net.directory import GUESTS, REFRESH_S, Directory, DirectoryLost
from metainf.swarm.net.stream import StageFailed
from metainf.swarm.plan.replicas import Replica, Wanted, best_way, writes
from metainf.swarm.plan.routing import Client, MissingBlocks
from metainf.swarm.plan.table import current
from metainf.swarm.privacy.guarding import Guard
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity
from metainf.swarm.trust.signing import Heard
from metainf.swarm.trust.tls import channel
from metainf.swarm.words import Announcement, Demand, Route

READ_EVERY_S, LOST_AFTER_S = 1.0, 10.0
NUMBERS = "float32"
KNOCK_EVERY_S, LONGEST_KNOCK_S, OPEN_S = 0.2, 3.0, 5.0
LET_IN_S = 20.0
"""Longer than a record lives: a node that died is no longer waited for."""
RETIRED_S = 300.0
"""How long a channel to a node that left stays open for the sessions that use it."""


class NotServed(NoFeasible):
    """No node serves the very weights that are asked for; the message lists those that are served."""


class NotLetIn(NoFeasible):
    """Nodes hold all blocks, but too few of them accept this caller."""


@dataclass
class _Door:
    """A node, as far as one got with it."""

    mark: tuple[str, str, int]
    heard: Heard
    channel: Any = None
    open: bool = False
    why: str = "it was not asked yet"
    knocking: "asyncio.Task[None] | None" = None

    @property
    def place(self) -> tuple[str, str]:
        return self.heard.word.node, self.mark[0]


@dataclass
class Caller:
    """Use as an asynchronous context. Sessions get `look`, `mine` and `channels`. Without a `scheduler` texts
    go where announced speeds promise most; where it `changes` methods, replicas are told to that obey."""

    directory: Directory
    identity: Identity = field(default_factory=lambda: Identity(os.urandom(SEED_BYTES)))
    channels: Channels = field(default_factory=dict)
    guard: Guard = field(default_factory=Guard)
    scheduler: Scheduler | None = field(default_factory=Scheduler)
    changes: bool = False

    def __post_init__(self) -> None:
        self.mine = certify(self.identity, time.time())
        self.book = self.guard.book(self.directory)
        self.heard: list[Heard] = []
        self._doors: dict[str, _Door] = {}
        self._models: set[str] = set()
        self._stop, self._read_s = asyncio.Event(), 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._old: list[tuple[float, Any]] = []
        self.pings = Pings(np.random.default_rng())
        self.rtt_ms: dict[str, float] = {}
        """Shortest of the last round trips by node, always the newest: sessions share it."""

    async def __aenter__(self) -> "Caller":
        """Read the directory and leave one's certificate. Raises DirectoryLost."""
        try:
            await self.directory.put(f"{GUESTS}{self.identity.node}", self.mine.der)
            await self._read()
        except BaseException:
            await self.directory.close()
            raise
        present = guest(self.book, self.mine, self.identity, self._stop)
        doing = [present, self._keep_reading(), self._keep_measuring()]
        if self.changes:
            doing.append(wishing(self, self._stop))
        self._tasks = [asyncio.create_task(each) for each in doing]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        knocking = [door.knocking for door in self._doors.values() if door.knocking is not None]
        for task in knocking:
            task.cancel()
        await asyncio.gather(*self._tasks, *knocking, return_exceptions=True)
        for each in [*self.channels.values(), *(old for _, old in self._old)]:
            await each.close()
        await self.directory.close()

    async def look(self) -> list[Heard]:
        """The nodes that let one in, as of the last reading of the directory."""
        return [door.heard for door in self._doors.values() if door.open]

    def lost(self, node: str) -> None:
        """A session gave the node up: it must let one in anew before another session asks it."""
        door = self._doors.get(node)
        if door is not None and door.open:
            door.open, door.why = False, "a session gave it up"
            self._retire(door)
            self._knock(door, KNOCK_EVERY_S)

    def expect(self, model: str) -> None:
        """Begin to knock at the nodes of a model, which will be asked for soon."""
        self._models.add(model)
        self._mind()

    def way(
        self, model: str, asking: Asking, wanted: Wanted, known: Client | None = None
    ) -> tuple[Route | Replica, Flight]:
        """Who writes a text, of the nodes that let one in: by the scheduler's choice, else the cheaper of the
        best path and the best replica. `known` is what one knows of nodes beside their round trips. Raises as
        `best_way` does, and BadInput for a text beyond its budget."""
        words = [door.heard.word for door in self._doors.values() if door.open]
        words = [word for word in current(words, model, time.time()) if asking.limits.admits(word)]
        client = replace(known or Client(), rtt_ms=self.rtt_ms)
        plain = Client(self.rtt_ms, avoid=client.avoid)
        present = best_way(words, asking.demand, plain, wanted)
        if self.scheduler is None or (wanted.path_first and isinstance(present, Route)):
            return present, Flight()
        return self.scheduler.way(Circle(words, client, wanted), asking, present)

    def channel_to(self, node: str) -> Any:
        """The channel to a node that lets one in; None where there is none."""
        door = self._doors.get(node)
        return None if door is None else self.channels.get(door.place)

    def replica(self, node: str, model: str, demand: Demand) -> tuple[Asked, str]:
        """A replica to ask, and its engine's name. Raises ReplicaFailed where it left just now."""
        door, kept = self._doors.get(node), self.channel_to(node)
        if door is None or kept is None:
            raise ReplicaFailed(node, "it has left")
        word, said = door.heard.word, door.heard.word.features
        promised_ms = said.queue_ms + said.prefill_ms_per_token_block * demand.prompt_tokens * word.num_blocks
        return Asked(node, model, kept, promised_ms / 1000), word.profile.engine

    async def let_in(
        self,
        model: str,
        patience_s: float = 0.0,
        within_s: float = LET_IN_S,
        replicas: bool = True,
        numbers: str = NUMBERS,
    ) -> None:
        """Wait until nodes that let one in hold all blocks of the model and calculate so, or a replica holds
        it: `patience_s` for
        nodes that hold them, `within_s` for those to open.

        Raises NotServed where nobody serves these weights, MissingBlocks, NotLetIn, DirectoryLost."""
        self.expect(model)
        begun = time.monotonic()
        while True:
            words = [
                word
                for word in self._words(model)
                if (replicas if writes(word) else word.profile.numbers == numbers)
            ]
            first = self.guard.required.keep
            if words and whole([word for word in words if self._doors[word.node].open], words, first):
                return
            held = bool(words) and whole(words, words, first)
            waited = time.monotonic() - begun
            if not held and self._read_s < begun:
                await self._read()
                continue
            if waited > within_s or (not held and waited > patience_s):
                raise self._why_not(f"{model} in {numbers}", words)
            if time.monotonic() - self._read_s > LOST_AFTER_S:
                raise DirectoryLost("the directory does not answer any more")
            await asyncio.sleep(0.05)

    def _why_not(self, what: str, words: list[Announcement]) -> NoFeasible:
        if not words:
            return NotServed(f"expected nodes of {what}, found none: {served(self.heard)}{self.book.note}")
        first = self.guard.required.keep
        if not whole(words, words, first):
            return MissingBlocks(gaps(words, words, first), words[0].num_blocks, self.book.note)
        closed = [door for word in words if not (door := self._doors[word.node]).open]
        told = "; ".join(f"{door.heard.word.node[:11]}: {door.why[:120]}" for door in closed[:4])
        return NotLetIn(f"expected nodes to let this caller in, found {len(closed)} that do not ({told})")

    def _words(self, model: str) -> list[Announcement]:
        return current([each.word for each in self.heard], model, time.time())

    async def _keep_reading(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), READ_EVERY_S)
            with contextlib.suppress(DirectoryLost):
                await self._read()
            while self._old and self._old[0][0] < time.monotonic():
                await self._old.pop(0)[1].close()

    async def _keep_measuring(self) -> None:
        """Renew the round trips in rounds."""
        while not self._stop.is_set():
            await pause(self._stop, REFRESH_S)
            words = [door.heard.word for door in self._doors.values() if door.open]
            self.pings.only(words)
            await self.pings.some(words)
            self._measured()

    def _measured(self) -> None:
        self.rtt_ms.clear()
        self.rtt_ms.update(self.pings.shortest())

    async def _read(self) -> None:
        self.heard = await self.book.look()
        self._read_s = time.monotonic()
        self._mind()

    def _mind(self) -> None:
        """Know new nodes, forget those that left."""
        words = {each.word.node: each for each in self.heard if each.word.model in self._models}
        for node in [node for node in self._doors if node not in words]:
            self._forget(node)
        for node, heard in words.items():
            mark = (heard.word.address, heard.word.certificate, heard.word.generation)
            door = self._doors.get(node)
            if door is not None and door.mark != mark:
                self._forget(node)
                door = None
            if door is None:
                door = self._doors[node] = _Door(mark, heard)
                self._knock(door)
            door.heard = heard

    def _forget(self, node: str) -> None:
        """Sessions may still use the channel: it is closed later."""
        door = self._doors.pop(node)
        if door.knocking is not None:
            door.knocking.cancel()
        self._retire(door)

    def _retire(self, door: _Door) -> None:
        """The next knock makes a new connection."""
        if (kept := self.channels.pop(door.place, None)) is not None:
            self._old.append((time.monotonic() + RETIRED_S, kept))

    def _knock(self, door: _Door, after_s: float = 0.0) -> None:
        if door.knocking is None or door.knocking.done():
            door.knocking = asyncio.create_task(self._until_open(door, after_s))

    async def _until_open(self, door: _Door, wait_s: float) -> None:
        """Ask for a stream until it is granted. A refused handshake makes gRPC wait: each try has its own
        channel."""
        while not door.open:
            await asyncio.sleep(wait_s)
            word = door.heard.word
            way = channel(word.address, word.node, door.heard.certificate, self.mine)
            try:
                await knocked(self.identity.node, word, way)
                await self.pings.to(word)
                self._measured()
                self.channels[door.place] = way
                door.open = True
            except (StageFailed, ReplicaFailed) as error:
                door.why = error.why
            finally:
                if not door.open:
                    await way.close()
            wait_s = min(LONGEST_KNOCK_S, max(KNOCK_EVERY_S, wait_s * 1.3))
