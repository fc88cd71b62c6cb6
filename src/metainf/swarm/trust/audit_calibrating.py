"""How far honest answers lie apart on this machine, and how far those of the mildest lie: the limits of
audits.

An honest node answers a prompt in pieces and then token by token, several sessions in a pass, with its own
number of threads; the auditor replays one session in one pass. Both calculate the same blocks here, and what
lies between their answers is rounding. The mildest lie known is weights rounded to 8 bits, or to 6 where 8
are declared.

    python -m metainf.swarm.trust.audit_calibrating CHECKPOINT [OUT.json]
"""

import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from metainf.catalog.detect import cpu_name
from metainf.domain import BadInput
from metainf.swarm.compute.blocks import Blocks, Ends, Step
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.trust.audit import LEAST_TYPICAL, Activations, Limit, Limits, coded, errors, named, spread
from metainf.swarm.words import Profile, Span

BATCHES, THREADS = (1, 2, 4, 8, 16), (1, 2)
PROFILES = (
    Profile(dtype="float32", codec="f32"),
    Profile(dtype="float32", codec="f16"),
    Profile(dtype="float32", codec="int8"),
    Profile(dtype="float32", quantization="int8", codec="f32"),
    Profile(dtype="bfloat16", codec="f32"),
)
SAFETY = 10.0


@dataclass(frozen=True)
class Plan:
    """How many honest audits of how many tokens each, and over how many blocks a span reaches at most."""

    audits: int = 200
    most_tokens: int = 48
    most_blocks: int = 12
    lies: int = 48


@dataclass(frozen=True)
class Found:
    """Relative RMS errors, of each audit the worst token's and the median's; an audit of fewer than
    LEAST_TYPICAL tokens has no median."""

    worst: list[float]
    typical: list[float]

    def add(self, claimed: Activations, replayed: Activations) -> None:
        each = errors(claimed, replayed)
        self.worst.append(float(each.max()))
        if len(each) >= LEAST_TYPICAL:
            self.typical.append(float(np.median(each)))


def decoded(blocks: Blocks, inputs: Any, cuts: Sequence[int]) -> Any:
    """What a node answers: [sessions, tokens, width], all sessions in one pass for each piece between
    cuts."""
    torch, names = blocks.torch, [f"session {number}" for number in range(len(inputs))]
    pieces = []
    for start, end in zip([0, *cuts[:-1]], cuts, strict=True):
        asked = [Step(name, start, inputs[at : at + 1, start:end]) for at, name in enumerate(names)]
        made = blocks.steps(asked)
        broken = next((each for each in made if isinstance(each, Exception)), None)
        if broken is not None:
            raise broken
        pieces.append(torch.cat([each.float() for each in made]))
    for name in names:
        blocks.close(name)
    return torch.cat(pieces, dim=1)


def replayed(blocks: Blocks, inputs: Any) -> Any:
    """What an auditor calculates: one session in one pass, with its own caches."""
    made = blocks.step("audit", 0, inputs)
    blocks.close("audit")
    return made.float()


def cheapened(blocks: Blocks) -> None:
    """Round every matrix to 8 bits a channel, in place, or to 6 where 8 are declared: what a node might save
    memory with on the sly."""
    torch = blocks.torch
    with torch.no_grad():
        for layer in blocks.layers:
            for each in (*layer.parameters(), *layer.buffers()):
                if each.ndim == 2 and each.dtype == torch.int8:
                    each.copy_((each.float() / 4).round().mul(4).clamp(-127, 127).to(torch.int8))
                elif each.ndim == 2:
                    scale = each.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
                    each.copy_((each / scale).round().clamp(-127, 127) * scale)


def cuts_of(tokens: int, rng: np.random.Generator) -> list[int]:
    """Where the pieces of a session end: a prompt of some length, in one piece or two, then single tokens."""
    prompt = int(rng.integers(1, tokens + 1))
    first = [int(rng.integers(1, prompt))] if prompt > 1 and rng.random() < 0.3 else []
    return [*first, prompt, *range(prompt + 1, tokens + 1)]


def spans(num_blocks: int, most: int, rng: np.random.Generator) -> Span:
    """A span as a node might hold it."""
    length = int(rng.integers(1, min(most, num_blocks) + 1))
    start = int(rng.integers(0, num_blocks - length + 1))
    return Span(start=start, end=start + length)


class Workshop:
    """A checkpoint's blocks as honest nodes and liars of one profile hold them."""

    def __init__(self, folder: Path, profile: Profile) -> None:
        self.checkpoint, self.profile = Checkpoint(folder), profile
        self.ends = Ends(self.checkpoint)
        self.vocabulary = int(self.ends.embedding.weight.shape[0])
        self.whole = self._blocks(Span(start=0, end=self.checkpoint.num_blocks))

    def _blocks(self, span: Span) -> Blocks:
        return Blocks(self.checkpoint, span, self.profile.dtype, self.profile.quantization)

    def blocks(self, span: Span) -> Blocks:
        """Honest ones, with sessions of their own."""
        return self.whole.view(span)

    def liar(self, span: Span) -> Blocks:
        made = self._blocks(span)
        cheapened(made)
        return made

    def inputs(self, start: int, sessions: int, tokens: int, rng: np.random.Generator) -> Any:
        """Activations of random tokens before block `start`, [sessions, tokens, width]."""
        torch = self.ends.torch
        drawn = [self.ends.embed(rng.integers(0, self.vocabulary, tokens).tolist()) for _ in range(sessions)]
        hidden = torch.cat(drawn)
        if start:
            hidden = decoded(self.blocks(Span(start=0, end=start)), hidden, [tokens])
        return hidden


def honest(shop: Workshop, codec: str, plan: Plan, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """Pairs of an honest answer and its replay, both as they are after the codec: `plan.audits` of them."""
    torch, done = shop.ends.torch, 0
    before = torch.get_num_threads()
    span = spans(shop.checkpoint.num_blocks, plan.most_blocks, rng)
    theirs, ours = shop.blocks(span), shop.blocks(span)
    while done < plan.audits:
        if rng.random() < 0.1:
            span = spans(shop.checkpoint.num_blocks, plan.most_blocks, rng)
            theirs, ours = shop.blocks(span), shop.blocks(span)
        batch, tokens = int(rng.choice(BATCHES)), int(rng.integers(1, plan.most_tokens + 1))
        threads = rng.choice(THREADS, 2)
        try:
            torch.set_num_threads(int(threads[0]))
            given = _coded(shop.inputs(span.start, batch, tokens, rng), codec)
            answers = _coded(decoded(theirs, given, cuts_of(tokens, rng)), codec)
            torch.set_num_threads(int(threads[1]))
            for one in range(min(batch, plan.audits - done)):
                again = _coded(replayed(ours, given[one : one + 1]), codec)
                yield answers[one : one + 1].numpy(), again.numpy()
                done += 1
        finally:
            torch.set_num_threads(before)


def lying(shop: Workshop, codec: str, plan: Plan, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """The same of nodes whose weights are cheaper: `plan.lies` of them."""
    for number in range(plan.lies):
        if number % 8 == 0:
            span = spans(shop.checkpoint.num_blocks, plan.most_blocks, rng)
            liar, ours = shop.liar(span), shop.blocks(span)
        tokens = int(rng.integers(1, plan.most_tokens + 1))
        given = _coded(shop.inputs(span.start, 1, tokens, rng), codec)
        answer = _coded(decoded(liar, given, cuts_of(tokens, rng)), codec)
        yield answer.numpy(), _coded(replayed(ours, given), codec).numpy()


def _coded(values: Any, codec: str) -> Any:
    import torch

    rows = [coded(values[one : one + 1].numpy(), codec) for one in range(len(values))]
    return torch.from_numpy(np.concatenate(rows))


def measured(folder: Path, profile: Profile, plan: Plan, rng: np.random.Generator) -> tuple[Found, Found]:
    """Errors of honest runs and of lies under one profile. Raises BadInput for a plan without either."""
    if plan.audits < 1 or plan.lies < 1 or plan.most_tokens < LEAST_TYPICAL:
        raise BadInput(f"expected audits, lies and at least {LEAST_TYPICAL} tokens, found {plan}")
    shop = Workshop(folder, profile)
    right, wrong = Found([], []), Found([], [])
    for claimed, again in honest(shop, profile.codec, plan, rng):
        right.add(claimed, again)
    for claimed, again in lying(shop, profile.codec, plan, rng):
        wrong.add(claimed, again)
    return right, wrong


def limit_of(profile: Profile, right: Found, wrong: Found, source: str) -> Limit:
    """The limit between honest errors and those of lies."""
    worst, apart = spread(right.worst, wrong.worst, SAFETY)
    typical, also = spread(right.typical, wrong.typical, SAFETY)
    return Limit(
        profile=profile,
        worst=worst,
        typical=typical,
        separates=apart and also,
        honest_worst=max(right.worst),
        honest_typical=max(right.typical),
        lie_worst=min(wrong.worst),
        lie_typical=min(wrong.typical),
        audits=len(right.worst),
        source=source,
    )


def place_of(folder: Path) -> str:
    """What a measurement holds for: model, library and processor."""
    return f"{folder.name}, torch {version('torch')}, {cpu_name() or platform.machine()}"


def main(arguments: Sequence[str]) -> None:
    """Measure all profiles and write the limits."""
    if not 1 <= len(arguments) <= 2:
        raise BadInput("expected CHECKPOINT [OUT.json]")
    folder = Path(arguments[0])
    found = []
    for profile in PROFILES:
        errors_of = measured(folder, profile, Plan(), np.random.default_rng(5))
        found.append(limit_of(profile, *errors_of, place_of(folder)))
        print(f"{named(profile)}: {found[-1].model_dump_json(exclude={'profile', 'source'})}", flush=True)
    if len(arguments) == 2:
        Path(arguments[1]).write_text(Limits(limits=tuple(found)).canonical() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
