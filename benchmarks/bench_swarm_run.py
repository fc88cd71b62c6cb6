"""Three stages on this machine against one process: tokens/s, the time of a hop, sixteen sessions at once.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_run.py [ROUNDS]

Each of the three nodes is a process with one thread and holds ten blocks of SmolLM2-135M in float32, reached
through the client. One process, three stages and sixteen sessions at once take turns, so that all meet the
same machine. Tokens/s of sessions at once count from the first session's start to the last one's end, with
their prompts; so do those of the one session they are compared with.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from metainf.swarm.compute.blocks import Blocks
from metainf.swarm.compute.ends import Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.weights import packaged
from metainf.swarm.host.embedded import all_stopped, ready, start_node, start_server
from metainf.swarm.host.running import Book, Told, guest
from metainf.swarm.net.client import Session
from metainf.swarm.net.directory import NatsDirectory
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity
from metainf.swarm.words import Span

TOKENS, PROMPT = 64, list(range(100, 132))
MANY, SHORT = 16, 32
"""Sessions at once, and the tokens that each writes."""


def alone(
    blocks: Blocks, ends: Ends, prompt: list[int] = PROMPT, tokens: int = TOKENS
) -> tuple[list[int], float]:
    """Tokens of one process, and tokens/s after the first."""
    hidden = blocks.step("alone", 0, ends.embed(prompt))
    made, begun = [ends.greedy(hidden)], time.perf_counter()
    while len(made) < tokens:
        hidden = blocks.step("alone", len(prompt) + len(made) - 1, ends.embed(made[-1:]))
        made.append(ends.greedy(hidden))
    return made, (tokens - 1) / (time.perf_counter() - begun)


def other_prompt(number: int) -> list[int]:
    return [1000 + 37 * number, *PROMPT]


async def at_once(sessions: list[Session]) -> tuple[list[list[int]], float]:
    """What each of the sessions writes, and the tokens/s of all together."""

    async def one(session: Session, number: int) -> list[int]:
        async with session:
            return [token async for token in session.generate(other_prompt(number), SHORT)]

    begun = time.perf_counter()
    made = await asyncio.gather(*(one(each, number) for number, each in enumerate(sessions)))
    return list(made), sum(map(len, made)) / (time.perf_counter() - begun)


async def sharded(session: Session) -> tuple[list[int], float, float]:
    """Tokens through the stages, tokens/s after the first, milliseconds of a hop beside the calculation."""
    made: list[int] = []
    begun = waited = 0.0
    async for token in session.generate(PROMPT, TOKENS):
        if not made:
            begun, waited = time.perf_counter(), sum(part.stream.wire_s for part in session.parts)
        made.append(token)
    took = time.perf_counter() - begun
    hops = (TOKENS - 1) * len(session.parts)
    wire_ms = (sum(part.stream.wire_s for part in session.parts) - waited) * 1000 / hops
    return made, (TOKENS - 1) / took, wire_ms


async def compared(whole: Blocks, ends: Ends, session: Callable[[str], Session], rounds: int) -> None:
    """Print each round, then the medians."""
    expected = [alone(whole, ends, other_prompt(number), SHORT)[0] for number in range(MANY)]
    pairs, hops, gains = [], [], []
    for _ in range(rounds):
        text, single = alone(whole, ends)
        async with session("run") as run:
            same, through, wire_ms = await sharded(run)
        assert same == text, "the texts differ"
        pairs.append((single, through))
        hops.append(wire_ms)
        print(f"one process {single:.1f} tokens/s, three stages {through:.1f}, a hop {wire_ms:.2f} ms")
        one, one_rate = await at_once([session("one")])
        many, rate = await at_once([session(f"many {number}") for number in range(MANY)])
        assert [*one, *many] == [expected[0], *expected], "the texts differ"
        gains.append(rate / one_rate)
        print(f"one session {one_rate:.1f} tokens/s, {MANY} at once {rate:.1f}")
    shares = [through / single for single, through in pairs]
    print(f"median: three stages at {statistics.median(shares):.0%} of one process, ", end="")
    print(
        f"a hop {statistics.median(hops):.2f} ms, {MANY} sessions {statistics.median(gains):.1f} times one, "
    )
    print(f"{TOKENS} tokens of one and {SHORT} of each of {MANY} equal in each of {rounds} rounds")


async def main(rounds: int) -> None:
    torch.set_num_threads(1)
    folder = packaged()
    checkpoint = Checkpoint(folder)
    ends, whole = Ends(checkpoint), Blocks(checkpoint, Span(start=0, end=checkpoint.num_blocks))
    model, third = checkpoint.digest(), checkpoint.num_blocks // 3
    with tempfile.TemporaryDirectory() as scratch:
        server = start_server(Path(scratch))
        spans = [Span(start=at, end=at + third) for at in range(0, 3 * third, third)]
        nodes = [
            await start_node(str(span), Told(checkpoint=str(folder), join=server.url, span=span))
            for span in spans
        ]
        directory = await NatsDirectory.join(server.url)
        me, stop = Identity(os.urandom(SEED_BYTES)), asyncio.Event()
        book, mine = Book(directory), certify(me, time.time())
        present = asyncio.create_task(guest(book, mine, me, stop))
        try:
            for each in nodes:
                await ready(each)
            await asyncio.sleep(3)

            def session(name: str) -> Session:
                return Session(ends, book.look, mine, Terms(name, model, step_s=30))

            await compared(whole, ends, session, rounds)
        finally:
            stop.set()
            await present
            await directory.close()
            await all_stopped(nodes)
            server.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
