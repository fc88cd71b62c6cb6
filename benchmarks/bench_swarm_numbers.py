"""What a split costs, what int8 weights save and change, what each codec sends and changes. SmolLM2-135M.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_numbers.py [--threads 1] [--write docs/swarm.md]

Everything happens in one process, so that no network counts. What is compared takes turns. With one thread
milliseconds are of processor time, which other work on the machine changes little; with more, of the clock.
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from swarm_stages import Lines, placed
from torch.nn.functional import linear

from metainf.swarm.compute import codec
from metainf.swarm.compute.blocks import Blocks, Step
from metainf.swarm.compute.ends import Ends
from metainf.swarm.compute.quantized import as_int8, int8_linear
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.weights import packaged
from metainf.swarm.words import Span

TURNS, TOKENS, MIB = 40, 64, 2**20
EDGES = (0, 10, 20, 30)
QUESTIONS = (
    "Name three rivers of Europe.", "What is 12 times 12?", "Write a sentence about snow.",
    "Who wrote Hamlet?", "Why is the sky blue?", "Give a recipe for bread.",
    "Translate 'good morning' into French.", "What does a compiler do?",
)  # fmt: skip
BEGIN, END = "<!-- made by benchmarks/bench_swarm_numbers.py -->", "<!-- end of its figures -->"
LINES = Lines()
Logits = Callable[[list[int]], Any]


def taking_turns(works: dict[str, Callable[[], Any]], turns: int = TURNS) -> dict[str, float]:
    """Median milliseconds of each, after two turns that do not count."""
    took: dict[str, list[float]] = {name: [] for name in works}
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for turn in range(turns + 2):
        for name, work in works.items():
            begun = clock()
            work()
            if turn > 1:
                took[name].append(clock() - begun)
    return {name: statistics.median(values) * 1000 for name, values in took.items()}


def one_token(parts: Sequence[Blocks], session: str, hidden: Any) -> Callable[[], None]:
    """The next token through all parts."""
    prompt = hidden.expand(1, 32, -1)
    for part in parts:
        part.step(session, 0, prompt)
    positions = itertools.count(32)

    def work() -> None:
        made, position = hidden, next(positions)
        for part in parts:
            made = part.step(session, position, made)

    return work


def split(whole: Blocks, thirds: list[Blocks], hidden: Any) -> None:
    found = taking_turns(
        {"30": one_token([whole], "a", hidden), "3 x 10": one_token(thirds, "b", hidden)}, 3 * TURNS
    )
    share = found["3 x 10"] / found["30"] - 1
    LINES.say(
        f"a token: 30 blocks {found['30']:.2f} ms, 3 x 10 blocks {found['3 x 10']:.2f} ms ({share:+.1%})"
    )
    for part in (whole, *thirds):
        part.close("a")
        part.close("b")


def batches(whole: Blocks, hidden: Any) -> None:
    rates = []
    for count in (1, 4, 16):
        names = [f"{count} {number}" for number in range(count)]
        whole.steps([Step(name, 0, hidden.expand(1, 32, -1)) for name in names])
        positions = itertools.count(32)

        def work(names: list[str] = names, positions: Any = positions) -> None:
            at = next(positions)
            whole.steps([Step(name, at, hidden) for name in names])

        (took,) = taking_turns({"": work}, 12).values()
        rates.append(f"{count}: {took:.0f} ms, {count / took * 1000:.0f} tokens/s")
        for name in names:
            whole.close(name)
    LINES.say("sessions in a pass: " + "; ".join(rates))


def linears(turns: int = 20) -> None:
    """The linear layers of ten blocks for one token and for sixteen, each way to hold their weights."""
    shapes = [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)] * 10
    weights = [torch.randn(shape) * 0.02 for shape in shapes]
    whole = [as_int8(weight) for weight in weights]
    mine = []
    for (outputs, inputs), (weight, scale) in zip(shapes, whole, strict=True):
        module = int8_linear(outputs, inputs, False, False)
        module.load_state_dict({"weight": weight, "scale": scale}, assign=True)
        mine.append(module)
    plain = [torch.nn.Linear(w.shape[1], w.shape[0], bias=False) for w in weights]
    for module, weight in zip(plain, weights, strict=True):
        module.weight = torch.nn.Parameter(weight)
    dynamic = torch.ao.quantization.quantize_dynamic(torch.nn.ModuleList(plain), {torch.nn.Linear})
    for count in (1, 16):
        given = {width: torch.randn(count, width) for width in (576, 1536)}
        ways = _ways(given, weights, mine, dynamic)
        with torch.inference_mode():
            took = taking_turns(ways, turns)
            exact = ways["float32"]()
            off = {
                name: max(
                    float((a.float() - b).abs().max() / b.abs().max())
                    for a, b in zip(work(), exact, strict=True)
                )
                for name, work in ways.items()
            }
        for name, value in took.items():
            LINES.say(
                f"linear layers of ten blocks, {count:2} tokens, {name}: {value:.1f} ms, off {off[name]:.1e}"
            )


def _ways(given: dict[int, Any], weights: list[Any], mine: list[Any], dynamic: Any) -> dict[str, Any]:
    def plain() -> list[Any]:
        return [linear(given[weight.shape[1]], weight) for weight in weights]

    def tiles() -> list[Any]:
        return [module(given[module.weight.shape[1]]) for module in mine]

    halves = [(module.weight, module.scale.bfloat16()) for module in mine]

    def packed() -> list[Any]:
        multiply = torch.ops.aten._weight_int8pack_mm
        return [multiply(given[w.shape[1]].bfloat16(), w, scale) for w, scale in halves]

    def dynamically() -> list[Any]:
        return [module(given[module.in_features]) for module in dynamic]

    return {
        "float32": plain,
        "int8, made floats in tiles": tiles,
        "_weight_int8pack_mm in bfloat16": packed,
        "quantize_dynamic": dynamically,
    }


def through(ends: Ends, parts: Sequence[Blocks], kind: str) -> Logits:
    """Logits of all tokens, where activations go from part to part, and to and from the ends, in a codec."""

    def sent(hidden: Any) -> Any:
        shape, data = codec.packed(hidden.numpy(), kind)
        return torch.from_numpy(codec.unpacked(shape, kind, data))

    def logits(tokens: list[int]) -> Any:
        hidden = sent(ends.embed(tokens))
        for part in parts:
            hidden = sent(part.step("logits", 0, hidden))
        return ends.logits(hidden)[0]

    return logits


def texts(ends: Ends, parts: Sequence[Blocks], kind: str, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy texts, all prompts in one pass at a time."""

    def sent(hidden: Any) -> Any:
        shape, data = codec.packed(hidden.contiguous().numpy(), kind)
        return torch.from_numpy(codec.unpacked(shape, kind, data))

    made: list[list[int]] = [[] for _ in prompts]
    fed, at = [list(each) for each in prompts], [0] * len(prompts)
    for _ in range(TOKENS):
        rows = [sent(ends.embed(tokens)) for tokens in fed]
        for part in parts:
            steps = [Step(str(n), at[n], row) for n, row in enumerate(rows)]
            rows = [sent(row) for row in part.steps(steps)]
        for number, row in enumerate(rows):
            at[number] += len(fed[number])
            fed[number] = [ends.greedy(row)]
            made[number] += fed[number]
    return made


def changed(name: str, exact: Any, found: Any, same: list[list[int]], written: list[list[int]]) -> None:
    told = exact.log_softmax(-1)
    apart = (told.exp() * (told - found.log_softmax(-1))).sum(-1).mean()
    top = (exact.argmax(-1) == found.argmax(-1)).float().mean()
    firsts = [
        next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), TOKENS)
        for a, b in zip(same, written, strict=True)
    ]
    equal, start = sum(first == TOKENS for first in firsts), statistics.mean(firsts)
    LINES.say(
        f"{name}: logits off by at most {float((exact - found).abs().max()):.3g}, KL {float(apart):.2g}, "
        f"same likeliest token {float(top):.2%}; {equal} of {len(firsts)} texts are equal over {TOKENS} "
        f"tokens, mean equal start {start:.0f}"
    )


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    LINES.say(f"SmolLM2-135M, {threads} thread(s) of {os.cpu_count()} cores, load {load:.1f} at the start")
    folder = packaged()
    checkpoint = Checkpoint(folder)
    ends, whole = Ends(checkpoint), Blocks(checkpoint, Span(start=0, end=EDGES[-1]))
    rounded = Blocks(checkpoint, whole.span, quantization="int8")
    thirds = [whole.view(Span(start=a, end=b)) for a, b in itertools.pairwise(EDGES)]
    split(whole, thirds, ends.embed([5]))
    batches(whole, ends.embed([5]))
    hidden = ends.embed([5])
    took = taking_turns({"f": one_token([whole], "a", hidden), "i": one_token([rounded], "a", hidden)})
    LINES.say(
        f"30 blocks: float32 {whole.bytes / MIB:.0f} MiB, {took['f']:.1f} ms a token; "
        f"int8 {rounded.bytes / MIB:.0f} MiB, {took['i']:.1f} ms"
    )
    linears()
    if threads > 1:
        return
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [
        list(tokenizer.encode(f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"))
        for asked in QUESTIONS
    ]
    same = texts(ends, thirds, "f32", prompts)
    tokens = [*itertools.chain(*(p + t for p, t in zip(prompts, same, strict=True)))][:512]
    exact = through(ends, thirds, "f32")(tokens)
    changed("int8 weights", exact, through(ends, [rounded], "f32")(tokens), same,
            texts(ends, [rounded], "f32", prompts))  # fmt: skip
    for kind in codec.CODECS:
        found, written = through(ends, thirds, kind)(tokens), texts(ends, thirds, kind, prompts)
        changed(f"codec {kind}, {codec.size(1, 576, kind):,} bytes a token", exact, found, same, written)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    main(told.threads)
    if told.write:
        placed(told.write, BEGIN, END, LINES.block())
