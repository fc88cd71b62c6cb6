"""Three stages on this machine against one process, with a model for which a swarm is worth its while.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_wide.py [--rounds 5] [--write docs/swarm.md]

As `bench_swarm_run.py` does, but with random weights of the shape of TinyLlama-1.1B. It writes a checkpoint
of 4.4 GB to the folder for temporary files and needs about 14 GB of memory.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

import torch
from bench_swarm_run import compared, ways_table
from swarm_stages import placed, stages, thirds

from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.weights import random_checkpoint

SHAPE = {
    "model_type": "llama", "vocab_size": 32_000, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 2048,
    "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}  # fmt: skip
NAME = "random weights of the shape of TinyLlama-1.1B"
SEED, STD, TOKENS = 1, 0.02, 24
BEGIN, END = "<!-- made by benchmarks/bench_swarm_wide.py -->", "<!-- end of its figures -->"


async def main(rounds: int, page: Path | None) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_checkpoint(SHAPE, Path(scratch) / "wide", SEED, STD)
        async with stages(folder, thirds(Checkpoint(folder).num_blocks)) as swarm:
            found = await compared(swarm, rounds, TOKENS)
    text = "\n".join(ways_table(NAME, found, TOKENS))
    print(text)
    if page:
        placed(page, BEGIN, END, text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    asyncio.run(main(told.rounds, told.write))
