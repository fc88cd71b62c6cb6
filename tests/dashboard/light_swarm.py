"""A swarm of members that announce themselves under their own keys, at real ports, and calculate nothing."""

import asyncio
import os
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from metainf.swarm.host.nats import started
from metainf.swarm.net.directory import NODES, joined
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.signing import seal
from metainf.swarm.words import Announcement

MODEL, BLOCKS, TELL_S, GOOD_S = f"b2:{'a' * 32}", 8, 1.0, 15.0


class Member:
    """One of them: it says the same every second until it dies."""

    def __init__(self, span: tuple[int, int], told: dict[str, Any]) -> None:
        self.identity = Identity(os.urandom(32))
        self.certified = certify(self.identity, time.time())
        self.span, self.told, self.seq = span, told, 0
        self.task: asyncio.Task[None] | None = None
        self.door: asyncio.Server | None = None

    @property
    def node(self) -> str:
        return self.identity.node

    def sealed(self) -> bytes:
        assert self.door is not None
        self.seq, now = self.seq + 1, time.time()
        port = self.door.sockets[0].getsockname()[1]
        features = {"decode_ms_per_block": 2.0, "region": "fra", "hardware": "Tester 9", "usd_per_hour": 0.4}
        word = Announcement.of(
            {
                "node": self.node, "generation": 1, "seq": self.seq, "address": f"127.0.0.1:{port}",
                "certificate": self.certified.digest, "model": MODEL, "num_blocks": BLOCKS,
                "span": {"start": self.span[0], "end": self.span[1]}, "profile": {"dtype": "float32"},
                "issued_s": now, "valid_until_s": now + GOOD_S,
                **{key: value for key, value in self.told.items() if key != "features"},
                "features": features | self.told.get("features", {}),
            }
        )  # fmt: skip
        return seal(self.identity, word, self.certified.der)


class LightSwarm:
    """A NATS server and members, in an event loop of their own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.server = started(folder)
        self.url = self.server.url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._directory = self._run(joined(self.url))
        self._members: list[Member] = []

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        found: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return found.result(30)

    def add(self, span: tuple[int, int], **told: Any) -> Member:
        """A member that is announced when this returns."""
        member = Member(span, told)
        self._members.append(member)

        async def come() -> None:
            member.door = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
            await self._directory.put(f"{NODES}{member.node}", member.sealed())
            member.task = asyncio.create_task(tell())

        async def tell() -> None:
            while True:
                await asyncio.sleep(TELL_S)
                await self._directory.put(f"{NODES}{member.node}", member.sealed())

        self._run(come())
        return member

    def kill(self, member: Member) -> None:
        """It dies as a process does: no farewell, its port closed, its record left to expire."""

        async def die() -> None:
            assert member.task is not None and member.door is not None
            member.task.cancel()
            member.door.close()

        self._run(die())

    def close(self) -> None:
        for member in self._members:
            self.kill(member)
        self._run(self._directory.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self.server.stop()
