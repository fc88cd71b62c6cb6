"""A node as a process: it loads its blocks, measures itself, announces itself, and drains when told to stop.

python -m metainf.swarm.host.running '{"checkpoint": ..., "join": "nats://...", ...}'
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from metainf.domain import MetaInfError
from metainf.domain.base import Frozen
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.net.directory import (
    GUESTS,
    LIFETIME_S,
    NODES,
    REFRESH_S,
    Directory,
    DirectoryLost,
    NatsDirectory,
    nodes,
    trusted,
)
from metainf.swarm.net.forwarding import Links
from metainf.swarm.net.node import Node, Offer
from metainf.swarm.plan.placement import choose, strengths
from metainf.swarm.plan.table import current
from metainf.swarm.trust.certificates import Certified, certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity, kept
from metainf.swarm.trust.signing import Heard, seal
from metainf.swarm.trust.tls import serving
from metainf.swarm.words import Announcement, Capacity, Features, Held, Profile, Span, State


class Told(Frozen):
    """What a node process is told. Without `span` it takes the blocks that the swarm needs most, at most
    `memory_blocks` of them; without `identity` its key lives as long as the process."""

    checkpoint: str
    join: str
    span: Span | None = None
    memory_blocks: PositiveInt | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    identity: str | None = None
    slowness: PositiveFloat = 1.0
    threads: PositiveInt = 1


class Book:
    """The directory as this process last read it."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.records: Mapping[str, bytes] = {}

    async def look(self) -> list[Heard]:
        """Read it anew; the nodes that are to be believed."""
        self.records = await self.directory.records()
        return nodes(self.records, time.time())

    def trusted(self) -> bytes:
        """PEM certificates of all who may connect."""
        return trusted(self.records, time.time())


async def announced(book: Book, word: Callable[[State], bytes], key: str, stop: asyncio.Event) -> None:
    """Say so again and again until told to stop, then take it back. A lost directory is tried again."""
    while not stop.is_set():
        with contextlib.suppress(DirectoryLost):
            await book.directory.put(key, word("online"))
            await book.look()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), REFRESH_S)
    with contextlib.suppress(DirectoryLost):
        await book.directory.remove(key)


async def keep_reading(book: Book, stop: asyncio.Event, every_s: float = 1.0) -> None:
    """Know new guests soon after they came."""
    while not stop.is_set():
        with contextlib.suppress(DirectoryLost):
            await book.look()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)


async def guest(book: Book, mine: Certified, identity: Identity, stop: asyncio.Event) -> None:
    """Leave one's certificate in the directory, so that nodes let one in."""
    await announced(book, lambda _: mine.der, f"{GUESTS}{identity.node}", stop)


def needed(checkpoint: Checkpoint, model: str, heard: list[Heard], room: int | None) -> Span:
    """The blocks that a new node should take beside those that are there. It has not measured itself yet, and
    is taken for a typical one."""
    words = current([each.word for each in heard], model, time.time())
    speeds = sorted(1000 / word.features.decode_ms_per_block for word in words)
    held = [
        Held(
            capacity=Capacity(
                node=word.node,
                blocks_per_s=1000 / word.features.decode_ms_per_block,
                memory_blocks=word.features.memory_blocks or len(word.span),
            ),
            span=word.span,
        )
        for word in words
    ]
    typical = speeds[len(speeds) // 2] if speeds else 1.0
    new = Capacity(node="new-node", blocks_per_s=typical, memory_blocks=room or checkpoint.num_blocks)
    return choose(new, strengths(held, checkpoint.num_blocks))


async def serve(told: Told, say: Callable[[str], None], stop: asyncio.Event) -> None:
    """Run one node until `stop`. Says one line when it is ready."""
    identity = kept(Path(told.identity)) if told.identity else Identity(os.urandom(SEED_BYTES))
    mine = certify(identity, time.time())
    checkpoint = Checkpoint(Path(told.checkpoint))
    model = checkpoint.digest()
    directory = await NatsDirectory.join(told.join)
    book = Book(directory)
    span = told.span or needed(checkpoint, model, await book.look(), told.memory_blocks)
    node = Node(checkpoint, Offer(identity.node, model, span, slowness=told.slowness))
    decode_ms, prefill_ms = await node.measure()
    port = await node.listen(
        f"{told.host}:{told.port}", serving(mine, book.trusted), Links(mine, book.trusted)
    )
    generation, seq = int(time.time() * 1000), 0

    def word(state: State) -> bytes:
        nonlocal seq
        seq, now = seq + 1, time.time()
        said = Announcement(
            node=identity.node,
            generation=generation,
            seq=seq,
            address=f"{told.host}:{port}",
            certificate=mine.digest,
            model=model,
            num_blocks=checkpoint.num_blocks,
            span=span,
            state=state,
            profile=Profile(dtype="float32"),
            features=Features(
                decode_ms_per_block=decode_ms,
                prefill_ms_per_token_block=prefill_ms,
                memory_blocks=told.memory_blocks,
            ),
            issued_s=now,
            valid_until_s=now + LIFETIME_S,
        )
        return seal(identity, said, mine.der)

    reading = asyncio.create_task(keep_reading(book, stop))
    speaking = asyncio.create_task(announced(book, word, f"{NODES}{identity.node}", stop))
    say(f"ready {identity.node} {span} {decode_ms:.2f} ms/block port {port}")
    await stop.wait()
    await asyncio.gather(reading, speaking)
    await node.stop()
    await directory.close()


async def _main(told: Told) -> None:
    import torch

    torch.set_num_threads(told.threads)
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await serve(told, lambda line: print(line, flush=True), stop)


if __name__ == "__main__":
    try:
        asyncio.run(_main(Told.parse(sys.argv[1])))
    except MetaInfError as error:
        sys.exit(str(error))
