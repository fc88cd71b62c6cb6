"""Many texts through three stages, some of which are killed on the way: are they what one process writes?

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_same.py [--prompts 20] [--tokens 256] [--kills 5]
        [--model FOLDER] [--write docs/swarm.md]

SmolLM2-135M in float32, unless told otherwise. Each stage is held by two nodes, each a process; four texts
are written at a time. In the middle of some texts a node of their route gets SIGKILL and is started anew
afterwards. One process judges each text: with the whole model it makes one pass over prompt and text, and its
likeliest token must be the one that was written, at each place. By induction over the places that is the text
which it writes itself, as far as a pass over many tokens gives the logits of passes over one; the closest
call between the two best logits tells whether that could matter.
"""

import argparse
import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from swarm_stages import Stages, placed, stages, thirds

from metainf.swarm.compute.blocks import Blocks
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.weights import packaged
from metainf.swarm.words import Span

BEGIN, END = "<!-- made by benchmarks/bench_swarm_same.py -->", "<!-- end of its figures -->"
AT_ONCE, SEED = 4, 7


@dataclass
class Written:
    """A text, and what happened to it."""

    prompt: list[int]
    tokens: list[int]
    recoveries: int
    replayed: int
    longest_s: float


async def one(swarm: Stages, prompt: list[int], count: int, kill_at: int | None) -> Written:
    """Write one; at a token kill one of its nodes, each stage in turn."""
    made: list[int] = []
    longest, last = 0.0, time.perf_counter()
    async with swarm.session() as session:
        async for token in session.generate(prompt, count):
            longest, last = max(longest, time.perf_counter() - last if made else 0.0), time.perf_counter()
            made.append(token)
            if len(made) == kill_at:
                victim = swarm.running(session.route[kill_at % len(session.route)].node)
                victim.process.kill()
                await victim.process.wait()
        replayed = sum(each.replayed_tokens for each in session.recoveries)
        return Written(prompt, made, len(session.recoveries), replayed, longest)


def judged(swarm: Stages, whole: Blocks, text: Written) -> tuple[int, float]:
    """At how many places the whole model writes another token, and the closest call."""
    tokens = [*text.prompt, *text.tokens]
    hidden = whole.step("judge", 0, swarm.ends.embed(tokens[:-1]))
    whole.close("judge")
    logits = swarm.ends.logits(hidden[:, len(text.prompt) - 1 :])[0]
    best = logits.topk(2, dim=-1)
    wrong = int((best.indices[:, 0] != torch.tensor(text.tokens)).sum())
    return wrong, float((best.values[:, 0] - best.values[:, 1]).min())


def section(texts: list[Written], verdicts: list[tuple[int, float]], count: int, killed: int) -> str:
    """What came of it, in words."""
    pairs = zip(texts, verdicts, strict=True)
    same = sum(wrong == 0 and len(text.tokens) == count for text, (wrong, _) in pairs)
    lost = [text for text in texts if text.recoveries]
    pause = max((text.longest_s for text in lost), default=0.0)
    return (
        f"{same} of {len(texts)} texts of {count} tokens are, token by token, what the whole model in one "
        f"process writes (random prompts of 8 to 47 tokens, {AT_ONCE} texts at a time, each of three stages "
        f"held twice; closest call between two tokens {min(closest for _, closest in verdicts):.4f}). "
        f"{killed} nodes were killed on the way, which {len(lost)} texts noticed: "
        f"{sum(text.recoveries for text in lost)} recoveries, {sum(text.replayed for text in lost)} tokens "
        f"replayed, longest pause {pause:.1f} s."
    )


async def main(told: argparse.Namespace, folder: Path) -> None:
    torch.set_num_threads(1)
    prompts, count, kills = told.prompts, told.tokens, told.kills
    checkpoint = Checkpoint(folder)
    spans, top = thirds(checkpoint.num_blocks), int(checkpoint.told["vocab_size"])
    rng, texts, begun = random.Random(SEED), [], time.perf_counter()
    asked = [
        [rng.randrange(top // 40, top - top // 40) for _ in range(rng.randrange(8, 48))]
        for _ in range(prompts)
    ]
    killed = {number: rng.randrange(count // 4, 3 * count // 4) for number in range(0, 4 * kills, 4)}
    async with stages(folder, [*spans, *spans]) as swarm:
        for first in range(0, prompts, AT_ONCE):
            group = range(first, min(first + AT_ONCE, prompts))
            texts += await asyncio.gather(
                *(one(swarm, asked[number], count, killed.get(number)) for number in group)
            )
            dead = [each for each in swarm.nodes if each.process.returncode is not None]
            swarm.nodes = [each for each in swarm.nodes if each not in dead]
            if dead:
                await swarm.start(*(each.told.span for each in dead if each.told.span))
            print(f"{len(texts)} texts, {time.perf_counter() - begun:.0f} s", flush=True)
        whole = Blocks(swarm.checkpoint, Span(start=0, end=swarm.checkpoint.num_blocks))
        verdicts = [judged(swarm, whole, text) for text in texts]
        words = section(texts, verdicts, count, len(killed))
        print(words)
    if told.write:
        placed(told.write, BEGIN, END, words)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a checkpoint's folder; SmolLM2-135M without")
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    asyncio.run(main(told, told.model or packaged()))
