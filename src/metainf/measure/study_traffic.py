"""The named traffic of the study: what acceleration methods differ on, at sizes that a small CPU can serve.

| name                 | tokens in  | out  | why |
|----------------------|------------|------|-----|
| short_chat           | 32         | 32   | plain batching |
| shared_prefix        | 512 + 24   | 24   | prefix caching between requests, from a cold cache |
| shared_prefix_warm   | 512 + 24   | 24   | the same after one request with that beginning |
| long_prompt          | 704        | 8    | prefill, and its chunks |
| long_generation      | 28         | 192  | decoding |
| copy_edit            | 144        | 96   | drafts that are looked up in the prompt |
| mixed                | 24 … 512   | 8…96 | all of it at once: what waits for what |

Lengths in are approximate (see `measure.prose`), those out are exact where the server obeys `ignore_eos`.
"""

from collections.abc import Callable, Mapping

import numpy as np

from metainf.domain import BadInput, UnknownName
from metainf.measure.prose import joined, opening, own_text, prose
from metainf.measure.reference import REFERENCE
from metainf.measure.words import Pacing, Request, Traffic

SHARED_TOKENS = 512
_MIXED_OUTPUTS = (8, 16, 32, 96)
_QUESTIONS = (
    "What would you say about this?",
    "Why do you think it happened?",
    "What should they do next?",
    "Who was right in the end?",
)
Make = Callable[[np.random.Generator, int], Request]


def of_study(name: str, requests: int, pacing: Pacing, rng: np.random.Generator) -> Traffic:
    """The named traffic (a key of STUDY) with this many requests, paced as told.

    Raises UnknownName for another name, BadInput for less than one request.
    """
    if name not in STUDY:
        raise UnknownName("study workload", name, STUDY)
    if requests < 1:
        raise BadInput(f"requests: expected at least 1, found {requests}")
    make, warming = STUDY[name](rng)
    return Traffic(
        name=name,
        requests=tuple(make(rng, i) for i in range(requests)),
        pacing=pacing,
        warming=warming,
        reference=REFERENCE,
    )


def _chat(tokens_in: int, tokens_out: int) -> Make:
    """A few sentences and a question about them."""

    def make(rng: np.random.Generator, number: int) -> Request:
        question = _QUESTIONS[number % len(_QUESTIONS)]
        return Request(f"{own_text(rng, tokens_in - 8, number)}. {question}", tokens_out)

    return make


def _shared(rng: np.random.Generator, warm: bool) -> tuple[Make, tuple[Request, ...]]:
    """Questions after one beginning; the warming request has that beginning and another question."""
    beginning, make = f"{prose(rng, SHARED_TOKENS - 1)}.", _chat(24, 24)

    def after(rng: np.random.Generator, number: int) -> Request:
        own = make(rng, number)
        return Request(f"{beginning} {own.prompt}", own.output_tokens)

    return after, ((Request(f"{beginning} Is that all?", 4),) if warm else ())


def _long(rng: np.random.Generator, number: int) -> Request:
    return Request(f"{own_text(rng, 692, number)}. The whole story in one sentence:", 8)


def _copy(rng: np.random.Generator, number: int) -> Request:
    """Numbered lines to be repeated, with the first done: even a very small model goes on with the others."""
    lines = f"{prose(rng, 86)}.".split(". ")
    listed = "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))
    asked = f"{joined(opening(number))} Repeat these lines, word for word."
    return Request(f"{asked}\n\n{listed}\n\nThe same lines again:\n\n1. {lines[0]}\n2.", 96)


def _mixed(rng: np.random.Generator, number: int) -> Request:
    """Of eight requests five short chats with answers of many lengths, a long prompt, a copy, a story."""
    kind = number % 8
    if kind == 2:
        return Request(f"{own_text(rng, 500, number)}. The whole story in one sentence:", 8)
    if kind == 5:
        return _copy(rng, number)
    if kind == 7:
        return _chat(28, 96)(rng, number)
    tokens_out = _MIXED_OUTPUTS[int(rng.integers(len(_MIXED_OUTPUTS)))]
    return _chat(int(rng.integers(24, 64)), tokens_out)(rng, number)


STUDY: Mapping[str, Callable[[np.random.Generator], tuple[Make, tuple[Request, ...]]]] = {
    "short_chat": lambda _: (_chat(32, 32), ()),
    "shared_prefix": lambda rng: _shared(rng, warm=False),
    "shared_prefix_warm": lambda rng: _shared(rng, warm=True),
    "long_prompt": lambda _: (_long, ()),
    "long_generation": lambda _: (_chat(28, 192), ()),
    "copy_edit": lambda _: (_copy, ()),
    "mixed": lambda _: (_mixed, ()),
}
"""What makes each request, and what warms the cache."""
