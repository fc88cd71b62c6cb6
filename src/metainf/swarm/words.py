"""The words of the swarm: which node holds which blocks, and how well it runs them.

A model is a chain of `num_blocks` blocks; a span is [start, end). Times are milliseconds unless a name says
otherwise; instants are seconds since the epoch.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from metainf.domain.base import Frozen
from metainf.domain.privacy import MOST_BLOCKS as MOST_BLOCKS

NodeId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{2,63}$")]
"""A node's name: of an identity, `ed-` and the digest of its public key."""
Digest = Annotated[str, Field(pattern=r"^[a-z0-9]{2,12}:[0-9a-f]{16,128}$")]
State = Literal["joining", "online", "draining"]
MOST_PINGS, MOST_LABELS, MOST_METHODS = 64, 16, 8
MethodName = Annotated[str, Field(min_length=1, max_length=64)]
"""A recipe, as in `metainf measure --method`."""
LEAST_REPUTATION, MOST_REPUTATION = 0.1, 10.0
LEAST_BLOCK_MS, MOST_MS = 1e-6, 1e6
MOST_CACHE_TOKENS = 10**12
"""What can be said in an announcement: beyond that sums over blocks and nodes would no longer be numbers."""
Milliseconds = Annotated[float, Field(ge=0, le=MOST_MS)]
BlockMilliseconds = Annotated[float, Field(ge=LEAST_BLOCK_MS, le=MOST_MS)]


def sayable_ms(ms: float, least_ms: float = 0.0) -> float:
    """The nearest that can be said."""
    return min(max(ms, least_ms), MOST_MS)


class Span(Frozen):
    """Contiguous blocks [start, end) of a model."""

    start: NonNegativeInt
    end: Annotated[int, Field(gt=0, le=MOST_BLOCKS)]

    @model_validator(mode="after")
    def _not_empty(self) -> "Span":
        if self.start >= self.end:
            raise ValueError(f"expected start below end, found [{self.start}, {self.end})")
        return self

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"[{self.start}, {self.end})"


class Profile(Frozen):
    """How a node calculates. Two nodes' activations may be compared only under the same profile."""

    dtype: str = Field(min_length=1, max_length=32)
    quantization: str = Field(default="none", min_length=1, max_length=32)
    codec: str = Field(default="raw", min_length=1, max_length=32)
    engine: str = Field(default="torch", min_length=1, max_length=32)

    @property
    def numbers(self) -> str:
        """How it calculates, in a word: the format of activations, and of weights where it is another one."""
        return numbers(self.dtype, self.quantization)


def numbers(dtype: str, quantization: str = "none") -> str:
    """Nodes of one session must have the same: `float32`, or `float32+int8` for weights held as int8."""
    return dtype if quantization == "none" else f"{dtype}+{quantization}"


class Offered(Frozen):
    """A method that a replica runs or may change to. Speeds are of one block, of a text alone, None where it
    was not tried; `prefix_tokens` of beginnings stay in its cache."""

    method: MethodName
    decode_ms_per_block: BlockMilliseconds | None = None
    prefill_ms_per_token_block: Milliseconds | None = None
    prefix_tokens: NonNegativeInt = 0


class Writing(Frozen):
    """What a replica says besides: the method that it runs and those that it may run, how many texts it
    writes at once, how many it has now, and tokens of prompts that have no answer yet."""

    method: MethodName
    methods: tuple[Offered, ...] = Field(min_length=1, max_length=MOST_METHODS)
    places: PositiveInt
    texts: NonNegativeInt = 0
    waiting_tokens: NonNegativeInt = 0

    @model_validator(mode="after")
    def _consistent(self) -> "Writing":
        names = [each.method for each in self.methods]
        if self.method not in names or len(set(names)) < len(names):
            raise ValueError(f"expected {self.method} once among the methods, found {names}")
        return self


class Features(Frozen):
    """What a node says of itself. Speeds are of one block; memory counts whole blocks."""

    decode_ms_per_block: BlockMilliseconds
    prefill_ms_per_token_block: Milliseconds = 0.0
    queue_ms: Milliseconds = 0.0
    cache_tokens_left: Annotated[int, Field(ge=0, le=MOST_CACHE_TOKENS)] = 2**31
    memory_blocks: PositiveInt | None = None
    hardware: str | None = Field(default=None, max_length=128)
    region: str | None = Field(default=None, max_length=64)
    usd_per_hour: NonNegativeFloat | None = None
    labels: tuple[Annotated[str, Field(max_length=64)], ...] = Field(default=(), max_length=MOST_LABELS)
    writing: Writing | None = None
    """Of a replica only."""


class Ping(Frozen):
    """A measured round trip to another node."""

    node: NodeId
    rtt_ms: Milliseconds


class Announcement(Frozen):
    """One node's word, good until `valid_until_s`. `generation` counts restarts, `seq` words within one."""

    version: Literal[1] = 1
    node: NodeId
    generation: NonNegativeInt
    seq: NonNegativeInt
    address: str = Field(min_length=1, max_length=256)
    certificate: Digest
    model: Digest
    num_blocks: Annotated[int, Field(gt=0, le=MOST_BLOCKS)]
    span: Span
    target: Span | None = None
    """Where it is about to move."""
    state: State = "online"
    profile: Profile
    features: Features
    pings: tuple[Ping, ...] = Field(default=(), max_length=MOST_PINGS)
    issued_s: NonNegativeFloat
    valid_until_s: NonNegativeFloat

    @model_validator(mode="after")
    def _consistent(self) -> "Announcement":
        if self.span.end > self.num_blocks:
            raise ValueError(f"the span {self.span} goes beyond the model's {self.num_blocks} blocks")
        if self.target is not None and self.target.end > self.num_blocks:
            raise ValueError(f"the target {self.target} goes beyond the model's {self.num_blocks} blocks")
        if self.valid_until_s <= self.issued_s:
            raise ValueError("valid_until_s does not lie after issued_s")
        return self


class Stage(Frozen):
    """One node's part of a route."""

    node: NodeId
    span: Span


class Route(Frozen):
    """Stages that cover all blocks in order, and the milliseconds that the whole request should take."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    expected_ms: NonNegativeFloat


class Demand(Frozen):
    """What one request asks of a route."""

    prompt_tokens: NonNegativeInt = 0
    new_tokens: PositiveInt = 1

    @property
    def passes(self) -> int:
        """Forward passes: one for the prompt, which gives the first token, and one for each other token."""
        return self.new_tokens

    @property
    def cache_tokens(self) -> int:
        """Positions that the KV cache must hold."""
        return self.prompt_tokens + self.new_tokens


class Capacity(Frozen):
    """A node as placement sees it: how many block passes a second it makes, how many blocks fit."""

    node: NodeId
    blocks_per_s: PositiveFloat
    memory_blocks: PositiveInt


class Held(Frozen):
    """A capacity with the blocks it holds."""

    capacity: Capacity
    span: Span
