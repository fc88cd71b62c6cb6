"""One stage of a text's way: what was sent into it, and what it answered."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metainf.swarm.net.pacing import Pace
from metainf.swarm.net.stream import Activations, Stream
from metainf.swarm.trust.audit import Evidence
from metainf.swarm.trust.signing import Heard
from metainf.swarm.words import Stage

PREFILL_TOKENS = 256
"""Tokens of a prompt in one message."""


@dataclass
class Part:
    """A stage, its stream, all that was sent into it and all that it answered, as [1, tokens, width] each,
    and where its node is."""

    stream: Stream
    heard: Heard
    history: list[Activations] = field(default_factory=list)
    made: list[Activations] = field(default_factory=list)

    def evidence(self) -> Evidence:
        """What this very stage was given and answered, for audits; nothing of stages before it in its
        place."""
        inputs = self.history[: len(self.made)]
        return Evidence(self.stream.stage, np.concatenate(inputs, axis=1), np.concatenate(self.made, axis=1))


def promised(stage: Stage, heard: Heard, patience: float = 1.0) -> Pace:
    """The pace of a stage as its node announced it."""
    said, blocks = heard.word.features, len(stage.span)
    prefill_s = said.prefill_ms_per_token_block * blocks / 1000
    return Pace(said.decode_ms_per_block * blocks / 1000, prefill_s, patience)


@dataclass(frozen=True)
class Recovery:
    """A failure that was survived: who, why, and the seconds from finding out to going on."""

    stage: Stage
    why: str
    seconds: float
    replayed_tokens: int


def chunks(history: list[Activations]) -> list[Activations]:
    """The same tokens in as few messages as may be."""
    if not history:
        return []
    whole = np.concatenate(history, axis=1)
    return [whole[:, at : at + PREFILL_TOKENS] for at in range(0, whole.shape[1], PREFILL_TOKENS)]


def shown(stages: Sequence[Stage]) -> str:
    """A route in a line."""
    return " > ".join(f"{stage.node[:11]} {stage.span}" for stage in stages)
