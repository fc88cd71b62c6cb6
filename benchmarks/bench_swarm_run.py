"""Three stages on this machine against one process: tokens/s, and the time of a hop.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_run.py [ROUNDS]

Each of the three nodes is a process with one thread and holds ten blocks of SmolLM2-135M in float32, reached
through the client. One process and three stages take turns, so that both meet the same machine.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from metainf.swarm.compute.blocks import Blocks, Ends
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


def alone(blocks: Blocks, ends: Ends) -> tuple[list[int], float]:
    """Tokens of one process, and tokens/s after the first."""
    hidden = blocks.step("alone", 0, ends.embed(PROMPT))
    made, begun = [ends.greedy(hidden)], time.perf_counter()
    while len(made) < TOKENS:
        hidden = blocks.step("alone", len(PROMPT) + len(made) - 1, ends.embed(made[-1:]))
        made.append(ends.greedy(hidden))
    return made, (TOKENS - 1) / (time.perf_counter() - begun)


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
            pairs, hops = [], []
            for _ in range(rounds):
                text, single = alone(whole, ends)
                async with Session(ends, book.look, mine, Terms("run", model, step_s=10)) as session:
                    same, through, wire_ms = await sharded(session)
                assert same == text, "the texts differ"
                pairs.append((single, through))
                hops.append(wire_ms)
                print(
                    f"one process {single:.1f} tokens/s, three stages {through:.1f}, a hop {wire_ms:.2f} ms"
                )
            shares = [through / single for single, through in pairs]
            print(f"median: three stages at {statistics.median(shares):.0%} of one process, ", end="")
            print(f"a hop {statistics.median(hops):.2f} ms, {TOKENS} tokens equal in each of {rounds} rounds")
        finally:
            stop.set()
            await present
            await directory.close()
            await all_stopped(nodes)
            server.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
