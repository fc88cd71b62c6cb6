"""What a node process is told, and what it says."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from metainf.domain.base import Frozen
from metainf.swarm.plan.joining import CACHE_TOKENS
from metainf.swarm.plan.rebalancing import STAY_S
from metainf.swarm.words import MOST_LABELS, NodeId, Span

GRACE_S, JUDGE_S = 5.0, 60.0


class Told(Frozen):
    """What a node process is told. `join` is a directory (`metainf.swarm.net.directory.joined`).

    Without `span` it takes the blocks that the swarm needs most, and moves when that changes: those by which
    routes get quickest, or with `place` those that leave the weakest block strongest. Without `identity` its
    key lives as long as the process.

    It holds as many blocks as fit into `memory_gib` (most of the free memory by default), each with the keys
    and values of `cache_tokens` tokens, at most `memory_blocks`; with the `quantization` int8 their weights
    are whole numbers of eight bits. About every `judge_s` seconds it judges whether to move, `stay_s` after
    it came at the earliest. `cache` is the folder where measured speeds are kept.
    Prometheus is answered at `metrics_host:metrics_port`, if at all.

    `paid`: it calculates only for orders of at least `least_nanousd_per_pass`, whose money the ledger in the
    file `ledger` holds, where one is given.

    `obey`: those for whom a replica changes its method.
    """

    checkpoint: str
    join: str
    span: Span | None = None
    place: Literal["routes", "weakest"] = "routes"
    memory_blocks: PositiveInt | None = None
    memory_gib: PositiveFloat | None = None
    quantization: Literal["none", "int8"] = "none"
    cache_tokens: PositiveInt = CACHE_TOKENS
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    public_address: str | None = Field(default=None, max_length=256)
    identity: str | None = None
    usd_per_hour: NonNegativeFloat | None = None
    region: str | None = Field(default=None, max_length=64)
    labels: tuple[Annotated[str, Field(max_length=64)], ...] = Field(default=(), max_length=MOST_LABELS)
    slowness: PositiveFloat = 1.0
    threads: PositiveInt = 1
    grace_s: NonNegativeFloat = GRACE_S
    stay_s: NonNegativeFloat = STAY_S
    judge_s: PositiveFloat = JUDGE_S
    measure_again: bool = False
    cache: str | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(gt=0, le=65535)] | None = None
    paid: bool = False
    least_nanousd_per_pass: NonNegativeInt = 0
    ledger: str | None = None
    obey: tuple[NodeId, ...] = ()


class Said(Frozen):
    """Something that happened to a node, as a line of `text` or as data."""

    event: Literal[
        "engine",
        "measured",
        "ready",
        "join",
        "moving",
        "moved",
        "changing",
        "changed",
        "draining",
        "left",
        "lost",
        "found",
        "warning",
    ]
    node: NodeId
    text: str
    span: Span | None = None
    address: str | None = None
