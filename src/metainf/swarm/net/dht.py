"""The directory as a distributed hash table of its members: no server, nobody in charge.

The table itself is hivemind's, in a process of its own (`dht_member`): strangers' bytes are parsed apart from
the keys and weights of the node, and neither's work makes the other wait. This side holds a copy that the
program keeps up to date: reading asks nobody.
"""

import asyncio
import contextlib
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from metainf.domain import BadInput, MissingExtra
from metainf.swarm.net.dht_words import MOST_LINE, Ask, Membership, Told, membership, packed, unpacked
from metainf.swarm.net.ending import ended
from metainf.swarm.net.records import (
    LIFETIME_S,
    MOST_RECORDS,
    DirectoryLost,
    checked,
    farewell,
    good_until,
)
from metainf.swarm.trust.identity import SEED_BYTES, Identity

START_S, ASK_S = 60.0, 10.0
FIRST_WAIT_S, MOST_WAIT_S = 0.5, 30.0


class HivemindDirectory:
    """A member of the table. Its program is started again where it dies."""

    def __init__(self, told: Membership, identity: Identity) -> None:
        self.told, self.identity = told, identity
        self.join_address = ""
        """How others join by way of this member; empty for one that does not stay."""
        self.round_s = 0.0
        """Seconds that the program's last reading took."""
        self._friends: tuple[str, ...] = ()
        self._folder = tempfile.TemporaryDirectory(prefix="metainf-dht-")
        self._program: asyncio.subprocess.Process | None = None
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._latest: dict[str, float] = {}
        self._waiting: dict[int, asyncio.Future[Told]] = {}
        self._numbers = itertools.count(1)
        self._heard_s = time.monotonic()
        self._round = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @classmethod
    async def join(
        cls, url: str, identity: Identity | None = None, stays: bool = True, lifetime_s: float = LIFETIME_S
    ) -> "HivemindDirectory":
        """Join the members at a URL, or begin a table. Raises BadInput, DirectoryLost and MissingExtra."""
        return await cls.member(membership(url, stays, lifetime_s), identity)

    @classmethod
    async def member(cls, told: Membership, identity: Identity | None = None) -> "HivemindDirectory":
        """Become a member; `identity` signs what is removed. Raises DirectoryLost and MissingExtra."""
        _needs_hivemind()
        made = cls(told, identity or Identity(os.urandom(SEED_BYTES)))
        if told.identity is None:
            made.told = told.model_copy(update={"identity": str(Path(made._folder.name) / "peer.key")})
        program = await made._start(made.told)
        if made.join_address:
            port = int(membership(made.join_address).peers[0].split("/")[4])
            made.told = made.told.model_copy(update={"port": port})
        made._running = asyncio.create_task(made._run(program))
        return made

    async def put(self, key: str, record: bytes) -> None:
        checked(key, record)
        now_s = time.time()
        until_s = now_s + self.told.lifetime_s
        if self.told.signed:
            until_s = good_until(key, record, now_s, self.told.lifetime_s)
            if until_s <= now_s:
                raise BadInput(f"expected a signed record of {key}, which other members would keep")
        await self._keep(key, record, until_s)
        self._kept[key] = (until_s, record)

    async def remove(self, key: str) -> None:
        """Put a farewell in the record's place; others believe that which the key's owner signed."""
        checked(key)
        # A table keeps, of two words, the one that is good for longer.
        until_s = max(time.time() + self.told.lifetime_s, self._latest.get(key, 0.0) + 1e-3)
        await self._keep(key, farewell(self.identity, key, until_s), until_s)
        self._kept[key] = (until_s, b"")

    async def records(self) -> Mapping[str, bytes]:
        if self._silent_s() > self.told.lifetime_s and self._running is not None:
            self._round.clear()  # a process that was busy for so long has only not listened
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._round.wait(), 2.0)
        if (silent_s := self._silent_s()) > self.told.lifetime_s:
            raise DirectoryLost(f"no other member of the hash table answered for {silent_s:.0f} s")
        now_s = time.time()
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > now_s}
        live = [(key, record) for key, (_, record) in self._kept.items() if record]
        return dict(live[:MOST_RECORDS])

    def _silent_s(self) -> float:
        return time.monotonic() - self._heard_s

    async def close(self) -> None:
        await ended(self._running)
        self._running = None
        if self._program is not None:
            await _ended(self._program)
        self._forget("this member has left the hash table")
        self._folder.cleanup()
        self._heard_s = -1e9

    async def _keep(self, key: str, record: bytes, until_s: float) -> None:
        """Ask the program, and wait for its answer."""
        program, number = self._program, next(self._numbers)
        if program is None or program.returncode is not None or program.stdin is None:
            raise DirectoryLost("the program of the hash table does not run")
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        ask = Ask(number=number, key=key, record=packed(record), until_s=until_s)
        try:
            program.stdin.write(ask.canonical().encode() + b"\n")
            await program.stdin.drain()
            told = await asyncio.wait_for(answer, ASK_S)
        except (TimeoutError, OSError) as error:
            raise DirectoryLost(f"the hash table does not answer: {error!r}") from None
        finally:
            self._waiting.pop(number, None)
        if not told.good:
            raise DirectoryLost(f"the hash table did not keep {key}: {told.why}")
        self._latest[key] = until_s

    async def _start(self, as_told: Membership) -> asyncio.subprocess.Process:
        """The program, once it is a member. Raises DirectoryLost."""
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "metainf.swarm.net.dht_member",
            as_told.canonical(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MOST_LINE,
        )
        try:
            told = await asyncio.wait_for(self._next(program), START_S)
        except TimeoutError:
            told = Told(kind="failed", why=f"not ready within {START_S:.0f} s")
        except BaseException:
            program.kill()
            raise
        if told is None or told.kind != "ready":
            await _ended(program)
            why = told.why if told is not None else "its program ended"
            where = ", ".join(as_told.peers) or f"{as_told.host}:{as_told.port}"
            raise DirectoryLost(f"expected a hash table at {where}: {why}")
        self.join_address, self._program = told.join, program
        self._heard_s = time.monotonic()
        return program

    async def _run(self, program: asyncio.subprocess.Process) -> None:
        """Hear the program, and start it again for ever, at its old address: one who joined goes to those who
        were seen, one who began a table is met again by the others."""
        tries = 0
        while True:
            while (told := await self._next(program)) is not None:
                self._hear(told)
                tries = 0
            await _ended(program)
            self._forget("the program of the hash table ended")
            await asyncio.sleep(min(MOST_WAIT_S, FIRST_WAIT_S * 2.0**tries) * (0.5 + random.random() / 2))
            tries += 1
            known = tuple(dict.fromkeys(self.told.peers + self._friends)) if self.told.peers else ()
            with contextlib.suppress(DirectoryLost):
                program = await self._start(replaced(self.told, known))

    async def _next(self, program: asyncio.subprocess.Process) -> Told | None:
        """What the program says next; None at its end."""
        assert program.stdout is not None
        while line := await program.stdout.readline():
            try:
                return Told.parse(line)
            except BadInput:  # a line of the library's own
                continue
        return None

    def _hear(self, told: Told) -> None:
        if told.kind == "answer" and (waiting := self._waiting.get(told.number)) and not waiting.done():
            waiting.set_result(told)
        if told.kind != "round":
            return
        self._friends = told.peers or self._friends
        if told.good:
            self._heard_s, self.round_s = time.monotonic(), told.took_s
            self._round.set()
        for key, kept in told.new.items():
            if kept.until_s > self._kept.get(key, (0.0, b""))[0]:
                self._kept[key] = (kept.until_s, unpacked(kept.record))

    def _forget(self, why: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(Told(kind="answer", good=False, why=why))


def replaced(told: Membership, peers: tuple[str, ...]) -> Membership:
    """The same membership by way of other peers."""
    return told.model_copy(update={"peers": peers})


async def _ended(program: asyncio.subprocess.Process, within_s: float = 3.0) -> None:
    """Let the program leave, and end it where it does not."""
    if program.stdin is not None:
        program.stdin.close()
    try:
        await asyncio.wait_for(program.wait(), within_s)
    except TimeoutError:
        program.kill()
        await program.wait()


def _needs_hivemind() -> None:
    from importlib.util import find_spec

    if find_spec("hivemind") is None:
        raise MissingExtra("a directory without a server", "dht")
