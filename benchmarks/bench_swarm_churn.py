"""Texts through a swarm whose nodes are killed and replaced all the time, against what one process writes.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_churn.py [--seconds 40] [--write docs/swarm.md]

Eight real nodes as processes of this machine, of a random model of four blocks, two blocks each at most, a
NATS server, one client that writes three texts at a time. Nodes choose their blocks themselves and fill gaps.
Kills come at random moments, five times as often as 30 % of the nodes in a minute.
"""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

import torch
from swarm_stages import placed

from metainf.hosts.asked import Ask
from metainf.swarm.compute.blocks import Blocks, Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.nats import started
from metainf.swarm.host.tokens import Tokens
from metainf.swarm.words import Span
from metainf.testing.churning import Plan, churned, told
from metainf.testing.random_models import LAYERS, random_byte_model

BEGIN, END = "<!-- made by benchmarks/bench_swarm_churn.py -->", "<!-- end of its figures -->"


class Alone:
    """One process that writes the same texts."""

    def __init__(self, folder: Path) -> None:
        checkpoint = Checkpoint(folder)
        self.ends, self.tokens = Ends(checkpoint), Tokens(folder)
        self.blocks = Blocks(checkpoint, Span(start=0, end=LAYERS))
        self.known: dict[str, str] = {}

    def __call__(self, ask: Ask) -> str:
        prompt = str(ask.prompt)
        if prompt not in self.known:
            fed, position = self.tokens.encode(prompt), 0
            made: list[int] = []
            while len(made) < ask.max_tokens:
                hidden = self.blocks.step("alone", position, self.ends.embed(fed))
                position += len(fed)
                made.append(self.ends.greedy(hidden))
                fed = made[-1:]
            self.known[prompt] = self.tokens.decode(made)
        return self.known[prompt]


def main() -> None:
    """Play it, print it, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    plan = Plan(blocks=2, seconds=asked.seconds)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_byte_model(Path(scratch) / "model", hidden_size=64, intermediate_size=96)
        store = Path(scratch) / "nats"
        store.mkdir()
        server = started(store)
        try:
            found = asyncio.run(churned(folder, server.url, plan, Alone(folder), Path(scratch)))
        finally:
            server.stop()
    words = "\n".join([*told(plan, found), f"Load of the machine at the start: {load:.0f}."])
    print(words)
    if asked.write:
        placed(asked.write, BEGIN, END, words)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
