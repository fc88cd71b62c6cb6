"""Replicas whose engines take their time on a clock of the test: real nodes and sockets, made-up seconds."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from small_swarm import Place, place

from metainf.swarm.host.book import Book
from metainf.swarm.host.caller import Caller
from metainf.swarm.host.engine import WholeLoad
from metainf.swarm.host.generating import Course, Joined, Swarm, Written, written
from metainf.swarm.host.scheduling import Scheduler
from metainf.swarm.net.completing import EngineFailed, Event, Request
from metainf.swarm.net.directory import NODES
from metainf.swarm.net.replica import ReplicaNode, WholeOffer
from metainf.swarm.plan.replicas import ENDPOINT
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.signing import seal
from metainf.swarm.trust.tls import serving
from metainf.swarm.words import Offered, Profile, Span, Writing

BLOCKS, WITHIN_S = 4, 20.0
PREFILL_S = 0.001
"""Of a token of a prompt."""


@dataclass
class Clock:
    """Seconds that pass where an engine says so. `heard` are the pieces that the reader of a text has."""

    now_s: float = 1000.0
    heard: int = 0
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> float:
        return self.now_s

    def hear(self) -> None:
        self.heard += 1
        self.bell.set()

    async def until(self, pieces: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            while self.heard < pieces:
                self.bell.clear()
                await self.bell.wait()


class Clockwork:
    """An engine: one `a` for each token, each after `token_s`; the first after the prompt was read too, but
    for what it remembers, where it does."""

    def __init__(self, clock: Clock, token_s: float, remembers: bool = False) -> None:
        self.clock, self.token_s, self.remembers = clock, token_s, remembers
        self.asked: list[Request] = []
        self.known: set[tuple[int, ...]] = set()
        self.dies = False

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        clock, before = self.clock, self.clock.heard
        if self.dies:
            raise EngineFailed("it was killed (by a test)")
        clock.now_s += PREFILL_S * self._unread(request.prompt)
        for number in range(request.max_tokens):
            await clock.until(before + number)  # who reads must not be late
            clock.now_s += self.token_s
            yield Event(text="a")
        await clock.until(before + request.max_tokens)
        yield Event(finished="length", output_tokens=request.max_tokens)

    def _unread(self, prompt: Sequence[int]) -> int:
        ends = range(64, len(prompt) + 1, 64)
        held = max((end for end in ends if tuple(prompt[:end]) in self.known), default=0)
        if self.remembers:
            self.known |= {tuple(prompt[:end]) for end in ends}
        return len(prompt) - held


@dataclass
class Made:
    """A swarm of such replicas, and the names that the test gave them."""

    place: Place
    swarm: Swarm
    clock: Clock
    scheduler: Scheduler
    engines: dict[str, Clockwork] = field(default_factory=dict)
    nodes: dict[str, ReplicaNode] = field(default_factory=dict)

    async def add(self, name: str, token_s: float, **told: Any) -> Clockwork:
        """A replica that says so of itself, and lets one in."""
        remembers = told.pop("remembers", False)
        engine = self.engines[name] = Clockwork(self.clock, token_s, remembers)
        identity = Identity(os.urandom(32))
        certified = certify(identity, time.time())
        offer = WholeOffer(identity.node, self.place.model, 4, 512)
        node = ReplicaNode(offer, WholeLoad(1.0, 0.0, num_blocks=BLOCKS))
        node.door = engine
        port = await node.listen("127.0.0.1:0", serving(certified, self.place.books[0].trusted))
        word = self.place.word(identity, certified, Span(start=0, end=BLOCKS), f"127.0.0.1:{port}", 1.0)
        offered = Offered(
            method="plain", decode_ms_per_block=1000 * token_s / BLOCKS,
            prefill_ms_per_token_block=1000 * PREFILL_S / BLOCKS, prefix_tokens=4096 if remembers else 0,
        )  # fmt: skip
        features = {
            "labels": (ENDPOINT,), "decode_ms_per_block": offered.decode_ms_per_block,
            "prefill_ms_per_token_block": offered.prefill_ms_per_token_block,
            "writing": Writing(method="plain", methods=(offered,), places=4), **told,
        }  # fmt: skip
        said = word.features.model_copy(update=features)
        profile = Profile(dtype="float32", codec="text", engine="llama.cpp")
        word = word.model_copy(update={"features": said, "profile": profile})
        await self.place.directory.put(f"{NODES}{identity.node}", seal(identity, word, certified.der))
        self.nodes[name] = self.place.nodes[name] = node  # type: ignore[assignment]
        self.swarm.caller.expect(self.swarm.model)
        await self.swarm.caller._read()  # sooner than it would by itself
        async with asyncio.timeout(WITHIN_S):
            while identity.node not in {each.word.node for each in await self.swarm.caller.look()}:
                await asyncio.sleep(0.02)
        return engine

    async def ask(self, text: str = "the", tokens: int = 6, **terms: Any) -> str:
        """A text; the name of whoever wrote it."""
        before = {name: len(engine.asked) for name, engine in self.engines.items()}
        await self.told(text, tokens, **terms)
        return next(name for name, engine in self.engines.items() if len(engine.asked) > before[name])

    async def told(self, text: str, tokens: int, **terms: Any) -> Written:
        course, pieces = Course(), []
        asked = self.swarm.asked(text, plain=True, max_tokens=tokens, ignore_eos=True, **terms)
        async for piece in self.swarm.stream(asked, course):
            self.clock.hear()
            pieces.append(piece)
        return written(pieces, course, "small")


@asynccontextmanager
async def made(folder: Path, seed: int = 1, **caller: Any) -> AsyncIterator[Made]:
    """A place without nodes, and a caller whose scheduler has the test's clock."""
    clock = Clock()
    scheduler = Scheduler(clock=clock, rng=np.random.default_rng(seed))
    async with place(folder) as here:
        book = Book(here.directory)
        book.records = here.directory.kept  # it always knows what the directory holds
        here.books.append(book)
        joined = Joined(Caller(here.directory, scheduler=scheduler, **caller), folder, "small")
        async with joined as swarm:
            yield Made(here, swarm, clock, scheduler)
