"""SmolLM2-135M from the packaged weights: shards write what the whole model writes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from families import one_thread

from metainf.measure.weights import MissingWeights
from metainf.swarm.compute.blocks import Blocks, Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.skeleton import cache_word
from metainf.swarm.compute.weights import packaged
from metainf.swarm.host.demo import one_process
from metainf.swarm.words import Span

torch = pytest.importorskip("torch", reason="needs the extra swarm")
transformers = pytest.importorskip("transformers", reason="needs the extra swarm")
for name in ("accelerate", "gguf"):
    pytest.importorskip(name, reason="needs the extra swarm")

__all__ = ["one_thread"]
EDGES = [[0, 30], [0, 10, 20, 30], [0, 1, 30], [0, 29, 30], [0, 7, 8, 19, 30]]
QUESTIONS = ("Name three rivers of Europe.", "What is 12 times 12?")
TOKENS = 24


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return packaged()
    except MissingWeights as error:
        pytest.skip(str(error))


def prompt(folder: Path, question: str) -> list[int]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": question}]
    told = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(told, add_special_tokens=False))


def test_logits_and_text_are_those_of_the_library(folder: Path) -> None:
    checkpoint = Checkpoint(folder)
    ends = Ends(checkpoint)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    word = cache_word(model)
    for question in QUESTIONS:
        tokens = prompt(folder, question)
        with torch.inference_mode():
            expected = model(torch.tensor([tokens])).logits
            written, cache = [], None
            fed = tokens
            for _ in range(TOKENS):
                told = model(torch.tensor([fed]), use_cache=True, **({word: cache} if cache else {}))
                cache = getattr(told, word)
                fed = [int(told.logits[0, -1].argmax())]
                written += fed
        for edges in EDGES:
            parts = [Blocks(checkpoint, Span(start=a, end=b)) for a, b in itertools.pairwise(edges)]
            hidden = ends.embed(tokens)
            for part in parts:
                hidden = part.step("s", 0, hidden)
            assert (ends.logits(hidden) - expected).abs().max() <= 1e-4, edges
        assert one_process(checkpoint, ends, tokens, TOKENS) == written
