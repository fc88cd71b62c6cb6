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
import transformers
from swarm_stages import placed

from metainf.hosts.asked import Ask
from metainf.swarm.compute.blocks import Blocks, Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.embedded import start_server
from metainf.swarm.host.tokens import Tokens
from metainf.swarm.words import Span
from metainf.testing.churning import Plan, churned, told

BEGIN, END = "<!-- made by benchmarks/bench_swarm_churn.py -->", "<!-- end of its figures -->"
LAYERS = 4


def model(folder: Path) -> Path:
    """A random Llama whose tokens are bytes, with its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(
        "llama", vocab_size=257, bos_token_id=None, eos_token_id=256, hidden_size=64, intermediate_size=96,
        num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    made = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.save_pretrained(folder)
    entries = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=entries, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(
        folder
    )
    return folder


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
        folder, store = model(Path(scratch) / "model"), Path(scratch) / "nats"
        store.mkdir()
        server = start_server(store)
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
