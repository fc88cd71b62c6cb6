"""A swarm in discrete events: nodes come and go, requests arrive, routes break and are found anew.

Placement and routing are the functions that nodes and clients use. Simplified, and said so: a session keeps
the time for a token that its route had when it was chosen; waiting at a node grows with its load as in a
queue with one server; a broken route costs the detection, and a prefill of everything so far on the new one.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metainf.domain import NoFeasible
from metainf.swarm.plan.fleet import BATCH, Fleet
from metainf.swarm.plan.routing import Client, Costs, best_route
from metainf.swarm.plan.rules import Picture, Placing
from metainf.swarm.plan.table import Floats, Ints, Table
from metainf.swarm.words import Capacity, Demand, Route, Span

JOIN, LEAVE, ASK, END = range(4)
FULLEST = 0.97


@dataclass(frozen=True)
class Scene:
    """What happens. Rates are per second; a left node stays listed for `listed_s`, like one whose word has
    not expired; a client sees `view` nodes at random."""

    num_blocks: int
    seconds: float = 300.0
    requests_per_s: float = 10.0
    mean_life_s: float = 1800.0
    listed_s: float = 15.0
    detect_ms: float = 1000.0
    view: int = 300
    attempts: int = 5
    costs: Costs = field(default_factory=Costs)


@dataclass(frozen=True)
class Told:
    """What came of it. Latencies in seconds for the whole request, speeds in tokens a second."""

    asked: int
    finished: int
    failed: int
    reroutes: int
    tokens_per_s: float
    latency_p50_s: float
    latency_p95_s: float
    session_tokens_per_s: float
    stages: float
    weakest_requests_per_s: float


@dataclass
class _Session:
    demand: Demand
    begun_s: float
    done: float = 0.0
    since_s: float = 0.0
    ms_per_token: float = 0.0
    route: Route | None = None
    rows: list[int] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    turn: int = 0


class Simulation:
    """One run. The first `initial` nodes are there from the start, the others join as some leave."""

    def __init__(self, fleet: Fleet, initial: Sequence[Span | None], rule: Placing, scene: Scene) -> None:
        self.fleet, self.rule, self.scene = fleet, rule, scene
        count = len(fleet)
        self.spans: list[Span | None] = [None] * count
        self.start, self.end = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self.alive, self.gone_s = np.zeros(count, dtype=bool), np.full(count, -np.inf)
        self.load = np.zeros(count)
        self.picture = Picture.of([], scene.num_blocks)
        self.sessions: dict[int, _Session] = {}
        self.on: dict[int, set[int]] = {}
        self.events: list[tuple[float, int, int, int]] = []
        self.serial, self.next_node = 0, len(initial)
        self.latencies: list[float] = []
        self.speeds: list[float] = []
        self.hops: list[int] = []
        self.asked = self.failed = self.reroutes = 0
        self.tokens = 0.0
        self.weakest: list[float] = []
        for row, span in enumerate(initial):
            if span is not None:
                self._settle(row, span)

    def run(self, rng: np.random.Generator) -> Told:
        """All events until the end of the scene."""
        for row in np.flatnonzero(self.alive):
            self._later(float(rng.exponential(self.scene.mean_life_s)), LEAVE, int(row))
        self._later(float(rng.exponential(1 / self.scene.requests_per_s)), ASK, 0)
        while self.events:
            now, _, kind, which = heapq.heappop(self.events)
            if now > self.scene.seconds:
                break
            if kind == LEAVE:
                self._leave(which, now, rng)
            elif kind == JOIN:
                self._join(now, rng)
            elif kind == ASK:
                self._ask(now, rng)
            else:
                self._finish(which, now)
        return self._told()

    def _later(self, when_s: float, kind: int, which: int) -> None:
        self.serial += 1
        heapq.heappush(self.events, (when_s, self.serial, kind, which))

    def _capacity(self, row: int) -> Capacity:
        return Capacity(
            node=f"node-{row}",
            blocks_per_s=float(self.fleet.blocks_per_s[row]),
            memory_blocks=int(self.fleet.memory_blocks[row]),
        )

    def _settle(self, row: int, span: Span) -> None:
        self.spans[row], self.alive[row] = span, True
        self.start[row], self.end[row] = span.start, span.end
        self.picture.add(self._capacity(row), span)

    def _join(self, now: float, rng: np.random.Generator) -> None:
        if self.next_node >= len(self.fleet):
            return
        row, self.next_node = self.next_node, self.next_node + 1
        self._settle(row, self.rule(self._capacity(row), self.picture, rng))
        self._later(now + float(rng.exponential(self.scene.mean_life_s)), LEAVE, row)

    def _leave(self, row: int, now: float, rng: np.random.Generator) -> None:
        span = self.spans[row]
        assert span is not None
        self.alive[row], self.gone_s[row] = False, now
        self.picture.add(self._capacity(row), span, -1)
        self.weakest.append(float(self.picture.strength.min()))
        self._later(now + float(rng.exponential(5.0)), JOIN, 0)
        for which in sorted(self.on.pop(row, ())):
            session = self.sessions[which]
            spent = max(0.0, now - session.since_s) * 1000 / session.ms_per_token
            session.done = min(session.done + spent, session.demand.new_tokens - 1.0)
            self._release(which, session)
            self.reroutes += 1
            self._route(which, session, now + self.scene.detect_ms / 1000, rng)

    def _ask(self, now: float, rng: np.random.Generator) -> None:
        self.asked += 1
        demand = Demand(
            prompt_tokens=int(np.clip(rng.lognormal(5.5, 0.8), 8, 4000)),
            new_tokens=int(np.clip(rng.lognormal(4.5, 0.7), 8, 1000)),
        )
        self.sessions[self.asked] = session = _Session(demand, now)
        self._route(self.asked, session, now, rng)
        self._later(now + float(rng.exponential(1 / self.scene.requests_per_s)), ASK, 0)

    def _route(self, which: int, session: _Session, now: float, rng: np.random.Generator) -> None:
        """Find a route for what is left; nodes that turn out to be gone cost a detection each time."""
        left = Demand(
            prompt_tokens=session.demand.prompt_tokens + int(session.done),
            new_tokens=max(1, session.demand.new_tokens - int(session.done)),
        )
        session.turn += 1
        avoid: set[str] = set()
        for _ in range(self.scene.attempts):
            rows, view, rtt = self._view(now, rng)
            try:
                route = best_route(view, left, Client(rtt_ms=rtt, avoid=avoid), self.scene.costs)
            except NoFeasible:
                now += self.scene.detect_ms / 1000
                continue
            chosen = [rows[stage.node] for stage in route.stages]
            dead = {f"node-{row}" for row in chosen if not self.alive[row]}
            if not dead:
                return self._start(which, session, route, (chosen, left), now)
            avoid |= dead
            now += self.scene.detect_ms / 1000
        self.failed += 1
        del self.sessions[which]
        return None

    def _view(self, now: float, rng: np.random.Generator) -> tuple[dict[str, int], Table, dict[str, float]]:
        """The nodes that a client knows of: rows by name, their table, and its round trips to them."""
        listed = np.flatnonzero(self.alive | (self.gone_s > now - self.scene.listed_s))
        rows: Ints = rng.choice(listed, min(self.scene.view, len(listed)), replace=False)
        names = tuple(f"node-{row}" for row in rows)
        places = self.fleet.places[rows]
        length = self.end[rows] - self.start[rows]
        busy = np.minimum(self.load[rows], FULLEST)
        home = self.fleet.places[int(rng.integers(0, len(self.fleet)))]
        rtt: Floats = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1)) + 1.0
        mine = np.sqrt(((places - home) ** 2).sum(-1)) + 1.0
        view = Table(
            nodes=names,
            num_blocks=self.scene.num_blocks,
            start=self.start[rows],
            end=self.end[rows],
            decode_ms=self.fleet.decode_ms[rows],
            prefill_ms=self.fleet.prefill_ms[rows],
            queue_ms=self.fleet.decode_ms[rows] * length * busy / (1 - busy),
            cache_tokens_left=np.full(len(rows), np.inf),
            rtt_ms=rtt,
        )
        return (
            dict(zip(names, rows.tolist(), strict=True)),
            view,
            dict(zip(names, mine.tolist(), strict=True)),
        )

    def _start(
        self, which: int, session: _Session, route: Route, found: tuple[list[int], Demand], now: float
    ) -> None:
        rows, left = found
        session.route, session.rows, session.since_s = route, rows, now
        session.ms_per_token = route.expected_ms / left.new_tokens
        busy = [
            self.fleet.decode_ms[row] * len(stage.span) / BATCH / session.ms_per_token
            for row, stage in zip(rows, route.stages, strict=True)
        ]
        session.loads = [float(each) for each in busy]
        for row, share in zip(rows, session.loads, strict=True):
            self.load[row] += share
            self.on.setdefault(row, set()).add(which)
        self._later(now + route.expected_ms / 1000, END, which * 1000 + session.turn % 1000)

    def _release(self, which: int, session: _Session) -> None:
        for row, share in zip(session.rows, session.loads, strict=True):
            self.load[row] = max(0.0, self.load[row] - share)
            self.on.get(row, set()).discard(which)

    def _finish(self, code: int, now: float) -> None:
        which, turn = divmod(code, 1000)
        session = self.sessions.get(which)
        if session is None or session.turn % 1000 != turn or session.route is None:
            return
        self._release(which, session)
        del self.sessions[which]
        self.tokens += session.demand.new_tokens
        self.latencies.append(now - session.begun_s)
        self.speeds.append(session.demand.new_tokens / (now - session.begun_s))
        self.hops.append(len(session.rows))

    def _told(self) -> Told:
        some = bool(self.latencies)
        p50, p95 = np.percentile(self.latencies, [50, 95]) if some else (np.nan, np.nan)
        return Told(
            asked=self.asked,
            finished=len(self.latencies),
            failed=self.failed,
            reroutes=self.reroutes,
            tokens_per_s=self.tokens / self.scene.seconds,
            latency_p50_s=float(p50),
            latency_p95_s=float(p95),
            session_tokens_per_s=float(np.median(self.speeds)) if some else float("nan"),
            stages=float(np.mean(self.hops)) if some else float("nan"),
            weakest_requests_per_s=float(np.mean(self.weakest)) if self.weakest else float("nan"),
        )


def beginning(
    fleet: Fleet, count: int, rule: Placing, picture: Picture, rng: np.random.Generator
) -> list[Span]:
    """Where the first `count` nodes go, one after another."""
    spans = []
    for row in range(count):
        node = Capacity(
            node=f"node-{row}",
            blocks_per_s=float(fleet.blocks_per_s[row]),
            memory_blocks=int(fleet.memory_blocks[row]),
        )
        spans.append(rule(node, picture, rng))
        picture.add(node, spans[-1])
    return spans
