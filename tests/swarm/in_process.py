"""A swarm in one process, for tests: real nodes, real sockets, real TLS; the directory is a dictionary."""

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from metainf.swarm.compute.blocks import Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.running import Book
from metainf.swarm.net.client import Session
from metainf.swarm.net.directory import GUESTS, NODES
from metainf.swarm.net.forwarding import Links
from metainf.swarm.net.node import Node, Offer
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.certificates import Certified, certify
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.signing import seal
from metainf.swarm.trust.tls import serving
from metainf.swarm.words import Announcement, Features, Profile, Span
from metainf.testing.random_models import LAYERS, likeliest
from metainf.testing.random_models import random_model as tiny

__all__ = ["LAYERS", "PROMPT", "InMemory", "Place", "alone", "place", "tiny", "written"]

PROMPT = [5, 17, 3, 88, 41]


class InMemory:
    """A directory in this process, for tests: nothing expires, nothing is far away."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, record: bytes) -> None:
        self.kept[key] = record

    async def remove(self, key: str) -> None:
        self.kept.pop(key, None)

    async def records(self) -> Mapping[str, bytes]:
        return dict(self.kept)

    async def close(self) -> None:
        pass


class Place:
    """Nodes that may be started and killed. A node reads the directory when `read` says so."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = Checkpoint(folder)
        self.model = self.checkpoint.digest()
        self.directory = InMemory()
        self.nodes: dict[str, Node] = {}
        self.people: dict[str, tuple[Identity, Certified]] = {}
        self.books: list[Book] = []
        self.me = Identity(os.urandom(32))
        self.mine = certify(self.me, time.time())

    async def start(
        self,
        name: str,
        span: tuple[int, int],
        decode_ms: float = 1.0,
        model: str = "",
        reads: bool = True,
        **more: Any,
    ) -> Node:
        """A node that announces itself. It knows all guests at once, or those of the last `read`."""
        identity = Identity(os.urandom(32))
        certified = certify(identity, time.time())
        held = Span(start=span[0], end=span[1])
        node = Node(self.checkpoint, Offer(identity.node, self.model, held, **more))
        book = Book(self.directory)
        if reads:
            book.records = self.directory.kept
        self.books.append(book)
        links = Links(certified, book.trusted)
        port = await node.listen("127.0.0.1:0", serving(certified, book.trusted), links)
        word = self.word(identity, certified, held, address=f"127.0.0.1:{port}", decode_ms=decode_ms)
        profile = Profile(dtype="float32", quantization=more.get("quantization", "none"))
        word = word.model_copy(update={"profile": profile, "model": model or self.model})
        await self.directory.put(f"{NODES}{identity.node}", seal(identity, word, certified.der))
        self.nodes[name], self.people[name] = node, (identity, certified)
        return node

    def word(
        self, identity: Identity, certified: Certified, span: Span, address: str, decode_ms: float
    ) -> Announcement:
        now = time.time()
        return Announcement(
            node=identity.node, generation=1, seq=1, address=address, certificate=certified.digest,
            model=self.model, num_blocks=self.checkpoint.num_blocks, span=span,
            profile=Profile(dtype="float32"), features=Features(decode_ms_per_block=decode_ms),
            issued_s=now, valid_until_s=now + 600,
        )  # fmt: skip

    def read(self) -> None:
        """All nodes read the directory."""
        for book in self.books:
            book.records = dict(self.directory.kept)

    async def kill(self, name: str) -> None:
        """Gone at once, still in the directory."""
        await self.nodes[name].stop(0)

    def session(self, **terms: Any) -> Session:
        told = Terms("text", self.model, **{"open_s": 3.0, "step_s": 1.0, **terms})
        return Session(Ends(self.checkpoint), Book(self.directory).look, self.mine, told)

    def streams(self) -> int:
        """Streams that are open at all nodes."""
        return sum(node.streams for node in self.nodes.values())

    def name_of(self, node: str) -> str:
        return next(name for name, (who, _) in self.people.items() if who.node.startswith(node))


@asynccontextmanager
async def place(folder: Path, known: bool = True) -> AsyncIterator[Place]:
    made = Place(folder)
    if known:
        await made.directory.put(f"{GUESTS}{made.me.node}", made.mine.der)
    try:
        yield made
    finally:
        for node in made.nodes.values():
            await node.stop(0)


def alone(folder: Path, prompt: list[int], count: int) -> list[int]:
    """What one process writes."""
    made = likeliest(folder, prompt, count)
    assert len(set(made)) > 3, "a text of one token shows nothing"
    return made


async def written(
    session: Session, count: int, at: int | None = None, then: Any = None, prompt: list[int] | None = None
) -> list[int]:
    """Tokens of a session; `then` is awaited after token number `at`."""
    made = []
    async for token in session.generate(prompt or PROMPT, count):
        made.append(token)
        if len(made) == at:
            await then()
    return made
