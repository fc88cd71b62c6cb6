"""What a hop costs beside the calculation: one token's activations in f16, 576 to 4096 wide.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_hop.py [--steps 300] [--write docs/swarm.md]

Three nodes, each a process with one block of a model that has little to calculate. A step through all of them
is timed at the client, from the activations of the embedding to those of the last block; what the nodes say
they calculated is taken off, and the rest is divided by three. Nodes hand the activations on, or the client
carries them. `idle` waits 20 ms before each step, as a node does whose turn comes once a token: caches and
processors are then cold.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from swarm_stages import Stages, placed, stages, thirds

from metainf.testing.random_models import random_model

WIDTHS, IDLE_S = (576, 2048, 4096), 0.02
BEGIN, END = "<!-- made by benchmarks/bench_swarm_hop.py -->", "<!-- end of its figures -->"


def made(folder: Path, width: int) -> Path:
    """Three blocks of that width with next to nothing in them."""
    return random_model(
        folder, std=0.02, hidden_size=width, intermediate_size=16, head_dim=16, num_hidden_layers=3,
        num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=4096,
    )  # fmt: skip


async def hop_ms(swarm: Stages, width: int, direct: bool, idle_s: float, steps: int) -> tuple[float, float]:
    """Median and 99th percentile of what a hop takes beside the calculation."""
    values = np.random.default_rng(0).normal(size=(1, 1, width)).astype(np.float32)
    times = []
    async with swarm.session(direct=direct, codec="f16") as session:
        async for _ in session.generate([1, 2, 3], 1):
            pass
        for number in range(steps + 20):
            if idle_s:
                await asyncio.sleep(idle_s)
            worked = sum(part.stream.node_s for part in session.parts)
            begun = time.perf_counter()
            await session._through(values)
            took = time.perf_counter() - begun
            if number >= 20:
                worked = sum(part.stream.node_s for part in session.parts) - worked
                times.append((took - worked) * 1000 / len(session.parts))
        assert not session.recoveries
    return statistics.median(times), float(np.percentile(times, 99))


async def main(steps: int, page: Path | None) -> None:
    torch.set_num_threads(1)
    lines = [
        f"Milliseconds of a hop beside the calculation, median / 99th percentile of {steps} steps through "
        f"three nodes ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, priority "
        f"{-os.nice(0)}), one token in f16 over TLS.",
        "",
        "| width | node to node | through the client | node to node, idle | through the client, idle |",
        "|---|---|---|---|---|",
    ]
    for width in WIDTHS:
        with tempfile.TemporaryDirectory() as scratch:
            async with stages(made(Path(scratch), width), thirds(3)) as swarm:
                cells = []
                for idle_s in (0.0, IDLE_S):
                    for direct in (True, False):
                        middle, high = await hop_ms(swarm, width, direct, idle_s, steps)
                        cells.append(f"{middle:.2f} / {high:.2f}")
        lines.append(f"| {width} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    text = "\n".join(lines)
    print(text)
    if page:
        placed(page, BEGIN, END, text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    asyncio.run(main(told.steps, told.write))
