"""Nodes as processes of this machine and a client that knows them, for benchmarks of the swarm."""

import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metainf.swarm.compute.blocks import Blocks, Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.embedded import Running, all_stopped, ready, start_node
from metainf.swarm.host.nats import started
from metainf.swarm.host.running import Book, Told, guest
from metainf.swarm.net.client import Session
from metainf.swarm.net.directory import NatsDirectory
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.certificates import Certified, certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity
from metainf.swarm.words import Span

START_S = 200.0
"""A machine that does other things too takes its time."""


@dataclass
class Stages:
    """A swarm that runs: its nodes, and what a session needs."""

    folder: Path
    url: str
    book: Book
    mine: Certified
    nodes: list[Running]
    checkpoint: Checkpoint
    model: str
    ends: Ends

    async def start(self, *spans: Span) -> list[Running]:
        """More nodes, ready and announced."""
        told = [Told(checkpoint=str(self.folder), join=self.url, span=span) for span in spans]
        made = [await start_node(str(each.span), each) for each in told]
        self.nodes += made
        for each in made:
            await ready(each, START_S)
        await asyncio.sleep(3)  # nodes read the directory each second
        return made

    def session(self, tell: Any = None, **terms: Any) -> Session:
        """Patient, as the machine may be busy."""
        agreed = Terms("run", self.model, **{"step_s": 10.0, "patience_s": 20.0, **terms})
        return Session(self.ends, self.book.look, self.mine, agreed, tell)

    def running(self, node: str) -> Running:
        """The process of a node."""
        return next(each for each in self.nodes if each.node == node)


@asynccontextmanager
async def stages(folder: Path, spans: Sequence[Span]) -> AsyncIterator[Stages]:
    """Start them, and end them afterwards."""
    checkpoint = Checkpoint(folder)
    with tempfile.TemporaryDirectory() as scratch:
        server = started(Path(scratch))
        directory = await NatsDirectory.join(server.url)
        me, stop = Identity(os.urandom(SEED_BYTES)), asyncio.Event()
        book, mine = Book(directory), certify(me, time.time())
        present = asyncio.create_task(guest(book, mine, me, stop))
        made = Stages(folder, server.url, book, mine, [], checkpoint, checkpoint.digest(), Ends(checkpoint))
        try:
            await made.start(*spans)
            yield made
        finally:
            stop.set()
            await present
            await directory.close()
            await all_stopped(made.nodes)
            server.stop()


def thirds(blocks: int) -> list[Span]:
    """Three stages."""
    third = blocks // 3
    ends = (0, third, 2 * third, blocks)
    return [Span(start=start, end=end) for start, end in itertools.pairwise(ends)]


def alone(blocks: Blocks, ends: Ends, prompt: list[int], count: int) -> tuple[list[int], float]:
    """Tokens of one process, and tokens/s after the first."""
    hidden = blocks.step("alone", 0, ends.embed(prompt))
    made, begun = [ends.greedy(hidden)], time.perf_counter()
    while len(made) < count:
        hidden = blocks.step("alone", len(prompt) + len(made) - 1, ends.embed(made[-1:]))
        made.append(ends.greedy(hidden))
    return made, (count - 1) / (time.perf_counter() - begun)


def placed(page: Path, begin: str, end: str, text: str) -> None:
    """Put what was measured between the marks of a page."""
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


class Lines:
    """What a benchmark says as it goes, kept for a page as one block of plain text."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.said.append(line)

    def block(self) -> str:
        return "\n".join(["```text", *self.said, "```"])
