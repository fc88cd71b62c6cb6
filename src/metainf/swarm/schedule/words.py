"""The words of the scheduler. Times are seconds, money is US dollars."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK_TOKENS = 512
"""Tokens of a prompt that share one entry of a prefix cache."""
WINDOWS_S, MOST_HELD_UP = np.array([1.0, 2.0, 4.0, 8.0, 15.0]), 0.9
"""Over how long the work of prompts is remembered: who writes for half a second is held up by the prompts of
this very second, who writes for long by as many as usual."""


@dataclass(frozen=True)
class Rates:
    """What is forecast of each kind of node (hardware) with each method: arrays [kind, method].

    A decode step with n sequences takes `step_s + n * step_per_sequence_s`; NaN where nothing is forecast.
    `spread` is the scale of the forecast's error in logs. `cached_blocks` is what the prefix cache holds, 0
    where the method has none.
    """

    methods: tuple[str, ...]
    prefill_s_per_token: Floats
    step_s: Floats
    step_per_sequence_s: Floats
    most_sequences: Ints
    cached_blocks: Ints
    spread: Floats

    def __post_init__(self) -> None:
        """Raises BadInput where the arrays differ in shape."""
        shapes = {each.shape for each in (self.prefill_s_per_token, self.step_s, self.step_per_sequence_s,
                                          self.most_sequences, self.cached_blocks, self.spread)}  # fmt: skip
        if len(shapes) != 1 or next(iter(shapes))[1:] != (len(self.methods),):
            raise BadInput(f"expected arrays [kind, {len(self.methods)} methods], found {sorted(shapes)}")


@dataclass(frozen=True)
class Ask:
    """One request: its tokens in, the tokens out that are expected, its limits, the prefix that it shares.

    `blocks` are digests of its prompt, one for BLOCK_TOKENS, each of all before it too. `labels` must all be
    on the node: a trust class, a region, an allow-list. `max_e2e_s` is for the whole answer.
    """

    input_tokens: int
    output_tokens: float
    max_ttft_s: float = float("inf")
    max_tpot_s: float = float("inf")
    max_e2e_s: float = float("inf")
    max_usd: float = float("inf")
    blocks: Sequence[int] = ()
    labels: frozenset[str] = frozenset()
    least_reputation: float = 0.0


@dataclass
class Swarm:
    """The present state, one entry a node. `waiting_tokens` are prompt tokens before a new request.
    `prefilling` [node, window] is the work of prompts that came lately, which fades (seconds of work a
    second) since `seen_s`; `away_s` the way to the node and back, and what else every first token waits
    for."""

    kind: Ints
    method: Ints
    usd_per_s: Floats
    reputation: Floats
    labels: tuple[frozenset[str], ...]
    running: Floats = field(init=False)
    waiting_tokens: Floats = field(init=False)
    open_from_s: Floats = field(init=False)
    prefilling: Floats = field(init=False)
    seen_s: Floats = field(init=False)
    away_s: Floats = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.kind)
        self.running, self.waiting_tokens = np.zeros(count), np.zeros(count)
        self.open_from_s = np.zeros(count)
        self.prefilling = np.zeros((count, len(WINDOWS_S)))
        self.seen_s, self.away_s = np.zeros(count), np.zeros(count)

    def sent(self, node: int, work_s: float, now_s: float) -> None:
        """A prompt of so much work went to a node. Its recent work says how often decoding is held up
        there."""
        left = np.exp((self.seen_s[node] - now_s) / WINDOWS_S)
        self.prefilling[node] = self.prefilling[node] * left + work_s / WINDOWS_S
        self.seen_s[node] = now_s

    def held_up(self, now_s: float, window_s: Floats) -> Floats:
        """The share of each node's time that prompts have taken lately, over about the time given for it."""
        which = np.minimum(np.searchsorted(WINDOWS_S, window_s), len(WINDOWS_S) - 1)
        work = self.prefilling[np.arange(len(self)), which]
        share: Floats = np.minimum(work * np.exp((self.seen_s - now_s) / WINDOWS_S[which]), MOST_HELD_UP)
        return share

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Choice:
    """The node that is asked, and what is expected of it: times (s), the chance to meet the limits,
    dollars."""

    node: int
    ttft_s: float
    tpot_s: float
    p_meets: float
    usd: float
    cached_tokens: int
    work_s: float
    fallback: bool = False


@dataclass(frozen=True)
class Outcome:
    """What was seen of a request on a node that ran a method: logs of seen over forecast are learnt from."""

    node: int
    method: int
    prefill_ratio: float | None
    step_ratio: float | None
    failed: bool = False
