"""Sixteen sessions at once against one, through one node and through three stages on this machine.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_sessions.py [--rounds 3] [--write docs/swarm.md]

Nodes are processes with one thread each and hold SmolLM2-135M in float32. All sessions run in this process,
which calculates every embedding and head. Tokens/s count from the first session's start to the last one's
end, with their prompts; so do those of the one session. Each text is compared with what one process writes.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from swarm_stages import placed, thirds

from metainf.swarm.compute.blocks import Blocks
from metainf.swarm.compute.ends import Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.weights import packaged
from metainf.swarm.host.embedded import all_stopped, ready, start_node
from metainf.swarm.host.nats import started
from metainf.swarm.host.running import Book, Told, guest
from metainf.swarm.net.client import Session
from metainf.swarm.net.directory import NatsDirectory
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity
from metainf.swarm.words import Span

MANY, TOKENS = 16, 64
"""Sessions at once, and the tokens that each writes."""
BEGIN, END = "<!-- made by benchmarks/bench_swarm_sessions.py -->", "<!-- end of its figures -->"
Rates = tuple[float, float]
"""Tokens/s of one session, and of many at once."""


def prompt(number: int) -> list[int]:
    return [1000 + 37 * number, *range(100, 132)]


def alone(blocks: Blocks, ends: Ends, asked: list[int]) -> list[int]:
    """What one process writes."""
    made: list[int] = []
    fed, position = asked, 0
    while len(made) < TOKENS:
        hidden = blocks.step("alone", position, ends.embed(fed))
        position += len(fed)
        made.append(ends.greedy(hidden))
        fed = made[-1:]
    return made


async def at_once(sessions: list[Session]) -> tuple[list[list[int]], float]:
    """What each of the sessions writes, and the tokens/s of all together."""

    async def one(session: Session, number: int) -> list[int]:
        async with session:
            return [token async for token in session.generate(prompt(number), TOKENS)]

    begun = time.perf_counter()
    made = await asyncio.gather(*(one(each, number) for number, each in enumerate(sessions)))
    return list(made), sum(map(len, made)) / (time.perf_counter() - begun)


class Swarm:
    """A directory, nodes for the given spans, and this process as their guest."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, ends: Ends) -> None:
        self.folder, self.ends, self.model = folder, ends, checkpoint.digest()
        self.me = Identity(os.urandom(SEED_BYTES))
        self.mine = certify(self.me, time.time())

    async def compared(self, spans: list[Span], expected: list[list[int]], rounds: int) -> list[Rates]:
        """What one session and many reach, in each round."""
        with tempfile.TemporaryDirectory() as scratch:
            server = started(Path(scratch))
            told = [Told(checkpoint=str(self.folder), join=server.url, span=span) for span in spans]
            nodes = [await start_node(str(each.span), each) for each in told]
            directory, stop = await NatsDirectory.join(server.url), asyncio.Event()
            book = Book(directory)
            present = asyncio.create_task(guest(book, self.mine, self.me, stop))
            try:
                for each in nodes:
                    await ready(each)
                await asyncio.sleep(3)
                return [await self._round(book, len(spans), expected) for _ in range(rounds)]
            finally:
                stop.set()
                await present
                await directory.close()
                await all_stopped(nodes)
                server.stop()

    async def _round(self, book: Book, stages: int, expected: list[list[int]]) -> Rates:
        def session(number: int) -> Session:
            terms = Terms(f"session {number}", self.model, step_s=60, open_s=30)
            return Session(self.ends, book.look, self.mine, terms)

        one, single = await at_once([session(0)])
        many, rate = await at_once([session(number) for number in range(MANY)])
        assert [*one, *many] == [expected[0], *expected], "the texts differ"
        print(f"{stages} stages: one session {single:.1f} tokens/s, {MANY} at once {rate:.1f}", flush=True)
        return single, rate


def row(stages: int, rates: list[Rates]) -> str:
    """Medians, and the range of the gain."""
    gains = [many / one for one, many in rates]
    one, many = (statistics.median(each) for each in zip(*rates, strict=True))
    return (
        f"| {stages} | {one:.1f} | {many:.1f} | {statistics.median(gains):.1f} "
        f"({min(gains):.1f}–{max(gains):.1f}) |"
    )


async def main(rounds: int, page: Path | None) -> None:
    torch.set_num_threads(1)
    folder = packaged()
    checkpoint = Checkpoint(folder)
    ends, count = Ends(checkpoint), checkpoint.num_blocks
    whole = Blocks(checkpoint, Span(start=0, end=count))
    expected = [alone(whole, ends, prompt(number)) for number in range(MANY)]
    swarm = Swarm(folder, checkpoint, ends)
    lines = [
        f"{rounds} rounds, {TOKENS} tokens a session after prompts of {len(prompt(0))}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; "
        "medians. Every text is what one process writes.",
        "",
        f"| stages | one session, tokens/s | {MANY} sessions, tokens/s | gain |",
        "|---|---|---|---|",
    ]
    for spans in ([whole.span], thirds(count)):
        lines.append(row(len(spans), await swarm.compared(spans, expected, rounds)))
    text = "\n".join(lines)
    print(text)
    if page:
        placed(page, BEGIN, END, text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    asyncio.run(main(told.rounds, told.write))
