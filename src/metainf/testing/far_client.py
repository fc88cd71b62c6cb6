"""A client of the swarm as a process, told what to do line by line: for tests on hosts of their own.

python -m metainf.testing.far_client CHECKPOINT JOIN

Reads `list` or `generate COUNT STEP_S TOKEN TOKEN …`, one a line; writes `listed NODE …`, `token TOKEN MS`,
`told …` and `done RECOVERIES`.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from metainf.domain import MetaInfError
from metainf.swarm.compute.blocks import Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.running import Book, guest
from metainf.swarm.net.client import Session
from metainf.swarm.net.directory import joined
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity


def say(line: str) -> None:
    """One line."""
    print(line, flush=True)


class FarClient:
    """One guest of the swarm."""

    def __init__(self, folder: Path, book: Book, identity: Identity) -> None:
        self.checkpoint, self.book = Checkpoint(folder), book
        self.ends, self.mine = Ends(self.checkpoint), certify(identity, time.time())

    async def generate(self, count: int, step_s: float, prompt: Sequence[int]) -> None:
        """Say each token and the milliseconds it took."""
        terms = Terms("far", self.checkpoint.digest(), step_s=step_s)
        before = time.perf_counter()
        async with Session(
            self.ends, self.book.look, self.mine, terms, lambda line: say(f"told {line}")
        ) as one:
            async for token in one.generate(prompt, count):
                now = time.perf_counter()
                say(f"token {token} {(now - before) * 1000:.1f}")
                before = now
            say(f"done {len(one.recoveries)}")

    async def do(self, line: str) -> None:
        """One command."""
        word, *rest = line.split()
        if word == "list":
            say("listed " + " ".join(sorted(heard.word.node for heard in await self.book.look())))
        elif word == "generate":
            await self.generate(int(rest[0]), float(rest[1]), [int(each) for each in rest[2:]])


async def main(checkpoint: str, join: str) -> None:
    """Until the input ends."""
    identity, stop = Identity(os.urandom(SEED_BYTES)), asyncio.Event()
    directory = await joined(join, identity, stays=False)
    book = Book(directory)
    client = FarClient(Path(checkpoint), book, identity)
    present = asyncio.create_task(guest(book, client.mine, identity, stop))
    say("ready")
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            await client.do(line)
        except MetaInfError as error:
            say(f"error {error}")
    stop.set()
    await present
    await directory.close()


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    asyncio.run(main(*sys.argv[1:3]))
