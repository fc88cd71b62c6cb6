"""Attacks prompts behind the first blocks of SmolLM2-135M, and times what the classes of privacy cost.

python benchmarks/bench_swarm_privacy.py [attack] [split] [encrypted] [--within SECONDS] [--write]

One thread. `attack` goes on where an earlier run ended and takes at most about so many seconds; what is
measured goes into the tables that are shipped (src/metainf/swarm/privacy/data). `--write` lays them out in
docs/privacy.md.
"""

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import privacy_page
import torch

from metainf.swarm.compute.blocks import Blocks, Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.weights import packaged
from metainf.swarm.privacy.inversion import Attack, Attacker, Hiding, hidden_as
from metainf.swarm.words import Span

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "src/metainf/swarm/privacy/data"
MODEL, SEED = "SmolLM2-135M-Instruct", 7
LEAST_TOKENS, FEW_TOKENS, DEEP = 60, 24, 8
"""Of prompts, secret ones; fewer behind many blocks, which take long."""
KNOWN = "<|im_start|>user\n"
PROMPTS = (
    "My name is Anna Meyer and my PIN is 4711.",
    "Patient 0382 has a fever of 39.4 and takes ibuprofen.",
    "We will sell 12,500 shares of Northwind on Friday morning.",
    "Draft a letter to my landlord about the broken heating.",
    "The password of the router is kiwi-Quartz-19.",
)
PLAIN = Hiding()
NOISY, SECRET = Hiding(noise=0.1), Hiding(permuted=True)
GRID: tuple[tuple[int, Hiding, int | None], ...] = (
    *((0, hiding, None) for hiding in (PLAIN, Hiding("int8"), NOISY, SECRET)),
    *(
        (1, hiding, None)
        for hiding in (PLAIN, Hiding("f16"), Hiding("int8"), Hiding(noise=0.01), NOISY, SECRET)
    ),
    *((2, hiding, None) for hiding in (PLAIN, Hiding("int8"), NOISY)),
    (1, Hiding(noise=1.0), 1024),
    (4, PLAIN, None),
    (1, Hiding(noise=3.0), 1024),
    *((4, hiding, None) for hiding in (Hiding("int8"), NOISY)),
    (8, PLAIN, None),
    (16, PLAIN, None),
    *((blocks, SECRET, None) for blocks in (2, 4)),
    (8, Hiding("int8"), None),
    (29, PLAIN, None),
)
"""Blocks at the client, what it does to activations, and candidates where not all are tried."""


def machine() -> str:
    """What it ran on, without names of one's own."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    return f"{model}, one thread, torch {torch.__version__}"


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Write a shipped table."""
    source = f"python benchmarks/bench_swarm_privacy.py {name if name != 'recovery' else 'attack'}"
    told = {"source": source, "machine": machine(), "rows": rows}
    (DATA / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def prompts(folder: Path) -> tuple[int, list[list[int]]]:
    """How many tokens the attacker knows, and the prompts with these in front."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = tokenizer.encode(KNOWN, add_special_tokens=False)
    return len(known), [known + tokenizer.encode(each, add_special_tokens=False) for each in PROMPTS]


def next_tokens(
    checkpoint: Checkpoint, ends: Ends, texts: list[list[int]], blocks: int, hiding: Hiding
) -> float:
    """Share of places where the rest of the model, given what is sent, still says the same next token."""
    rest = Blocks(checkpoint, Span(start=blocks, end=checkpoint.num_blocks))
    front = Blocks(checkpoint, Span(start=0, end=blocks)) if blocks else None
    same = places = 0
    for number, tokens in enumerate(texts):
        sent = ends.embed(tokens)
        sent = front.step(f"{number}", 0, sent) if front else sent
        unordered = Hiding(hiding.codec, hiding.noise)  # channels in another order change nothing
        changed = torch.from_numpy(hidden_as(sent[0].numpy(), unordered, SEED))[None]
        said = [ends.logits(rest.step(f"{number}", 0, each))[0].argmax(-1) for each in (sent, changed)]
        same, places = same + int((said[0] == said[1]).sum()), places + len(tokens)
    return same / places


def attack(within_s: float) -> None:
    """The grid, as far as time allows."""
    folder, begun = packaged(), time.monotonic()
    known, texts = prompts(folder)
    attacker, checkpoint = Attacker(folder), Checkpoint(folder)
    ends = Ends(checkpoint)
    path = DATA / "recovery.json"
    rows = json.loads(path.read_bytes())["rows"] if path.exists() else []
    done = {(row["blocks"], row["codec"], row["noise"], row["permuted"]) for row in rows}
    for blocks, hiding, most in GRID:
        if (blocks, hiding.codec, hiding.noise, hiding.permuted) in done:
            continue
        if time.monotonic() - begun > within_s:
            break
        since, found = time.process_time(), []
        for tokens in texts:
            found.append(attacker.recovered(tokens, Attack(blocks, hiding, known, most, SEED)))
            if sum(len(each.tokens) for each in found) >= (FEW_TOKENS if blocks >= DEEP else LEAST_TOKENS):
                break
        count = sum(len(each.tokens) for each in found)
        rows.append({
            "model": MODEL, "blocks": blocks, "codec": hiding.codec, "noise": hiding.noise,
            "permuted": hiding.permuted, "tokens": count, "most": most,
            "recovered": sum(each.right for each in found),
            "tried_per_token": round(sum(each.tried for each in found) / count, 1),
            "seconds_per_token": round((time.process_time() - since) / count, 3),
            "same_next": round(next_tokens(checkpoint, ends, texts, blocks, hiding), 4),
        })  # fmt: skip
        print(rows[-1], flush=True)
        keep("recovery", rows)


def split() -> None:
    """Processor time and bytes of a token, by the blocks that the client keeps."""
    checkpoint = Checkpoint(packaged())
    ends = Ends(checkpoint)
    width, words = ends.embedding.weight.shape[1], ends.embedding.weight.shape[0]
    whole = Blocks(checkpoint, Span(start=0, end=checkpoint.num_blocks))
    rows = []
    for blocks in (0, 1, 2, 4, 8, 16):
        mine_ms = _token_ms(whole.view(Span(start=0, end=blocks)), width) if blocks else 0.0
        hidden = torch.zeros(1, 1, width)
        since = time.process_time()
        for _ in range(20):
            ends.greedy(hidden)
        head_ms = (time.process_time() - since) * 50
        rest_ms = _token_ms(whole.view(Span(start=blocks, end=checkpoint.num_blocks)), width)
        rows.append({
            "blocks": blocks, "num_blocks": checkpoint.num_blocks, "client_blocks_ms": round(mine_ms, 2),
            "client_head_ms": round(head_ms, 2), "nodes_ms": round(rest_ms, 2),
            "bytes_up": 4 * width, "bytes_down": 4 * width, "bytes_logits": 4 * words,
        })  # fmt: skip
        print(rows[-1], flush=True)
    keep("split", rows)


def _token_ms(blocks: Blocks, width: int, tokens: int = 20) -> float:
    """Processor time of one token of a text of some length."""
    torch.manual_seed(SEED)
    blocks.step("s", 0, torch.randn(1, 64, width))
    since = time.process_time()
    for at in range(tokens):
        blocks.step("s", 64 + at, torch.randn(1, 1, width))
    took = time.process_time() - since
    blocks.close("s")
    return took * 1000 / tokens


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    within_s = float(arguments[arguments.index("--within") + 1]) if "--within" in arguments else 3600.0
    if "attack" in arguments:
        attack(within_s)
    if "split" in arguments:
        split()
    if "encrypted" in arguments:
        import privacy_encrypted

        keep("encrypted", privacy_encrypted.rows())
    if "--write" in arguments:
        privacy_page.write(ROOT / "docs/privacy.md")


if __name__ == "__main__":
    main(sys.argv[1:])
