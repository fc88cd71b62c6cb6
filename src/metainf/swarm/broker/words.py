"""The words of the queue. Instants are seconds since the epoch."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from metainf.domain.base import Frozen
from metainf.swarm.broker.sizes import USUAL
from metainf.swarm.words import MOST_BLOCKS, Digest

Token = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
"""A part of a subject: no dots, no blanks, no wildcards."""
Priority = Literal[0, 1, 2]
"""0 is served first."""
PRIORITIES: tuple[Priority, ...] = (0, 1, 2)
MOST_BODY = 512 * 1024
Kept = Annotated[int, Field(ge=0, le=MOST_BLOCKS)]
"""Blocks that the worker runs itself (privacy `split`)."""
MOST_SLOTS, LONGEST_S, MOST_SIZE, MOST_USD_PER_HOUR = 65_536, 86_400.0, 2e6, 1e6
"""Of one consumer, so that what some say of themselves can be added up whatever it is."""


class Job(Frozen):
    """One request. `transaction` is that of its order (or any digest that is its own): a job counts once,
    however often it is sent. `group` says who may serve it, `agent` who waits for the answer."""

    version: Literal[1] = 1
    transaction: Digest
    agent: Token
    tenant: Token
    group: Token
    priority: Priority = 1
    issued_s: NonNegativeFloat
    deadline_s: NonNegativeFloat
    body: Annotated[str, Field(max_length=MOST_BODY)]


class Reply(Frozen):
    """What came of a job: a body, or an error that says why there is none."""

    version: Literal[1] = 1
    transaction: Digest
    consumer: Token
    attempt: PositiveInt
    body: Annotated[str, Field(max_length=MOST_BODY)] | None = None
    error: Annotated[str, Field(max_length=2000)] | None = None


class Member(Frozen):
    """What one consumer announces of itself every few seconds. `model` is what callers ask for; `digest` and
    `num_blocks` are those of its weights, for orders; `request_s` the mean time of one request, of late, and
    `request_size` the mean size of the same requests (`broker.sizes`)."""

    version: Literal[1] = 1
    name: Token
    group: Token
    model: str = Field(max_length=256)
    digest: Digest | None = None
    num_blocks: Annotated[int, Field(gt=0, le=MOST_BLOCKS)] | None = None
    hardware: str | None = Field(default=None, max_length=128)
    region: str | None = Field(default=None, max_length=64)
    labels: tuple[Annotated[str, Field(max_length=64)], ...] = Field(default=(), max_length=16)
    keep: Kept = 0
    slots: Annotated[int, Field(gt=0, le=MOST_SLOTS)]
    request_s: Annotated[float, Field(gt=0, le=LONGEST_S)]
    request_size: Annotated[float, Field(gt=0, le=MOST_SIZE)] = USUAL
    usd_per_hour: Annotated[float, Field(ge=0, le=MOST_USD_PER_HOUR)] | None = None


class Group(Frozen):
    """One consumer group as its members announce it, and what waits for it.

    `request_s` is the mean time of one request at one slot, `request_size` the mean size of such;
    `reputation` runs from 0.1 to 10, 1 is neutral.
    """

    name: Token
    model: str = Field(max_length=256)
    hardware: str | None = Field(default=None, max_length=128)
    region: str | None = Field(default=None, max_length=64)
    labels: tuple[str, ...] = ()
    keep: Kept = 0
    slots: NonNegativeInt
    waiting: NonNegativeInt = 0
    request_s: PositiveFloat
    request_size: PositiveFloat = USUAL
    usd_per_hour: NonNegativeFloat | None = None
    reputation: PositiveFloat = 1.0


class Wish(Frozen):
    """What a request asks of whoever serves it. `wanted_s` is the time within which it should be answered,
    None where it names none; `work_s` how long it takes on the machine that it is measured by."""

    model: str = Field(max_length=256)
    hardware: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    least_reputation: NonNegativeFloat = 0.0
    keep: Kept = 0
    most_usd_per_hour: PositiveFloat | None = None
    wanted_s: PositiveFloat | None = None
    work_s: NonNegativeFloat = 1.0
