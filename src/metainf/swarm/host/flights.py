"""A text on its way to whoever the scheduler chose: what was expected of it, and what came."""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from metainf.domain import NoFeasible
from metainf.domain.base import Frozen
from metainf.swarm.net.completing import ReplicaFailed
from metainf.swarm.schedule.roster import Candidate

if TYPE_CHECKING:
    from metainf.swarm.host.scheduling import Scheduler

JITTER_S = 0.02
"""Of a first token, what says nothing of the node's speed."""
LEAST_TOKENS = 4
"""Of a text whose steps are learnt from."""
EDGES_MS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0)


@dataclass
class Buckets:
    """How long decisions took, counted by upper edges (ms)."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(EDGES_MS) + 1))
    sum_ms: float = 0.0

    def add(self, ms: float) -> None:
        self.counts[bisect_left(EDGES_MS, ms)] += 1
        self.sum_ms += ms

    def told(self) -> "Decided":
        return Decided(edges_ms=EDGES_MS, counts=tuple(self.counts), sum_ms=self.sum_ms)


class Decided(Frozen):
    """Decisions by the milliseconds that they took: `counts[i]` up to `edges_ms[i]`, the last beyond all."""

    edges_ms: tuple[float, ...]
    counts: tuple[NonNegativeInt, ...]
    sum_ms: NonNegativeFloat


class NodeTold(Frozen):
    """A node, or the path through blocks, as the scheduler sees it. `prefill_times` and `step_times` are how
    many times slower than announced it was learnt to be, `failing` the share of late texts that failed."""

    node: str
    method: str
    here: bool
    texts: NonNegativeInt
    chosen: NonNegativeInt
    failed: NonNegativeInt
    prefill_times: NonNegativeFloat
    step_times: NonNegativeFloat
    failing: NonNegativeFloat


class Scheduling(Frozen):
    """What the scheduler did. `counts` has `choices`, `fallbacks` to the choice by announced speeds,
    `errors`, requests that were `too_dear`, and `changes` of methods."""

    nodes: tuple[NodeTold, ...] = ()
    counts: dict[str, NonNegativeInt] = Field(default_factory=dict)
    decided: Decided

    def prometheus(self) -> str:
        """In Prometheus text. Nodes stand under their own names; those that left are left out."""
        lines, prefix = [], "metainf_swarm:scheduler_"
        for name, count in sorted(self.counts.items()):
            lines += [f"# TYPE {prefix}{name}_total counter", f"{prefix}{name}_total {count}"]
        for name in ("chosen", "failed", "prefill_times", "step_times", "failing"):
            total = "_total" if name in ("chosen", "failed") else ""
            lines.append(f"# TYPE {prefix}node_{name}{total} {'counter' if total else 'gauge'}")
            lines += [
                f'{prefix}node_{name}{total}{{node="{each.node}"}} {getattr(each, name):g}'
                for each in self.nodes
                if each.here
            ]
        lines.append(f"# TYPE {prefix}decision_seconds histogram")
        edges = [*(f"{edge / 1000:g}" for edge in self.decided.edges_ms), "+Inf"]
        for edge, count in zip(edges, accumulate(self.decided.counts), strict=True):
            lines.append(f'{prefix}decision_seconds_bucket{{le="{edge}"}} {count}')
        lines.append(f"{prefix}decision_seconds_sum {self.decided.sum_ms / 1000:g}")
        lines.append(f"{prefix}decision_seconds_count {sum(self.decided.counts)}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Plan:
    """What was expected, by announced speeds alone. `tokens` of the prompt are to be read there; `limits` are
    of the first token and of each other (s)."""

    name: str
    candidate: Candidate
    tokens: int
    learns_prefill: bool
    ttft_s: float
    held_up: float
    limits: tuple[float, float]
    new_tokens: int


class Flight:
    """Use as a context while a text is written; `wrote` hears how many tokens there are. Without a plan it
    does nothing."""

    def __init__(self, scheduler: "Scheduler | None" = None, plan: Plan | None = None) -> None:
        self.scheduler, self.plan = scheduler, plan
        self.tokens, self.beside, self.complete = 0, 0, False
        self.begun_s, self.last_s = 0.0, 0.0
        self.first_s: float | None = None

    def __enter__(self) -> "Flight":
        if self.scheduler is not None and self.plan is not None:
            self.begun_s = self.scheduler.clock()
            own = self.scheduler.roster.own[self.plan.name]
            self.beside, own.texts = own.texts, own.texts + 1
            own.waiting_tokens += self.plan.tokens
        return self

    def wrote(self, tokens: int, finished: bool = False) -> None:
        """There are so many tokens now."""
        if self.scheduler is None or self.plan is None:
            return
        self.last_s, self.tokens = self.scheduler.clock(), tokens
        self.complete = self.complete or finished
        if self.first_s is None:
            self.first_s = self.last_s
            self._read()

    def _read(self) -> None:
        """The prompt does not wait any more."""
        if self.scheduler is not None and self.plan is not None:
            own = self.scheduler.roster.own.get(self.plan.name)
            if own is not None:
                own.waiting_tokens = max(0, own.waiting_tokens - self.plan.tokens)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self.scheduler is None or self.plan is None:
            return
        if self.first_s is None:
            self._read()
        own = self.scheduler.roster.own.get(self.plan.name)
        if own is not None:
            own.texts = max(0, own.texts - 1)
        failed = kind is not None and issubclass(kind, ReplicaFailed | NoFeasible)
        self.scheduler.ended(self.plan, self, failed)

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.begun_s

    @property
    def tpot_s(self) -> float | None:
        """None of a text that is too short to tell."""
        if self.first_s is None or self.tokens < LEAST_TOKENS:
            return None
        return (self.last_s - self.first_s) / (self.tokens - 1)

    @property
    def good(self) -> bool:
        """Whether it kept its limits."""
        if self.plan is None or self.ttft_s is None:
            return False
        most_ttft_s, most_tpot_s = self.plan.limits
        return self.ttft_s <= most_ttft_s and (self.tpot_s or 0.0) <= most_tpot_s

    def ratios(self, beside: float) -> tuple[float | None, float | None]:
        """Seen over expected: of the first token, and of steps among so many texts at the node."""
        plan = self.plan
        if plan is None or self.ttft_s is None:
            return None, None
        speed, away_s = plan.candidate.speeds[plan.candidate.method], plan.candidate.away_s
        first = None
        if plan.learns_prefill:
            seen = max(0.0, self.ttft_s - away_s)
            first = (seen + JITTER_S) / (max(0.0, plan.ttft_s - away_s) + JITTER_S)
        if self.tpot_s is None:
            return first, None
        beside = min(beside + plan.candidate.texts, plan.candidate.places)
        step = (speed.step_s + max(1.0, beside) * speed.each_s) / (1 - plan.held_up)
        return first, self.tpot_s / step
