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
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.rules import Picture, Placing
from metainf.swarm.plan.scenes import Fate, Scene, Told
from metainf.swarm.plan.seen import Seen
from metainf.swarm.plan.table import Table
from metainf.swarm.words import Capacity, Demand, Route, Span

JOIN, LEAVE, ASK, END = range(4)
MOST_AFTER_S = 3600.0
"""Requests that are not finished so long after the last one was asked never will be."""


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

    def __init__(
        self, fleet: Fleet, initial: Sequence[Span | None], rule: Placing, scene: Scene, fate: Fate
    ) -> None:
        self.fleet, self.rule, self.scene, self.fate = fleet, rule, scene, fate
        count = len(fleet)
        self.spans: list[Span | None] = [None] * count
        self.start, self.end = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self.alive, self.gone_s = np.zeros(count, dtype=bool), np.full(count, -np.inf)
        self.picture, self.fullest = Seen.nobody(fleet, scene.num_blocks), 0.0
        self.load = self.picture.load
        self.sessions: dict[int, _Session] = {}
        self.on: dict[int, set[int]] = {}
        self.events: list[tuple[float, int, int, int]] = []
        self.serial, self.next_node = 0, len(initial)
        self.latencies: dict[int, float] = {}
        """Seconds by request, of those that are finished."""
        self.speeds: list[float] = []
        self.hops: list[int] = []
        self.failed = self.reroutes = 0
        self.tokens = 0.0
        self.weakest: list[float] = []
        for row, span in enumerate(initial):
            if span is not None:
                self._settle(row, span)

    def run(self) -> Told:
        """All events until every request is finished."""
        for row in np.flatnonzero(self.alive):
            self._later(float(self.fate.lives_s[row]), LEAVE, int(row))
        for which, (when_s, _) in enumerate(self.fate.asks):
            self._later(when_s, ASK, which)
        waiting = len(self.fate.asks)
        while self.events and (waiting or self.sessions):
            now, _, kind, which = heapq.heappop(self.events)
            if now > self.scene.seconds + MOST_AFTER_S:
                break
            if kind == LEAVE:
                self._leave(which, now)
            elif kind == JOIN:
                self._join(now)
            elif kind == ASK:
                waiting -= 1
                self._ask(which, now)
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

    def _join(self, now: float) -> None:
        if self.next_node >= len(self.fleet):
            return
        row, self.next_node = self.next_node, self.next_node + 1
        self._settle(row, self.rule(self._capacity(row), self.picture, self.fate.dice(row)))
        self._later(now + float(self.fate.lives_s[row]), LEAVE, row)

    def _leave(self, row: int, now: float) -> None:
        span = self.spans[row]
        assert span is not None
        self.alive[row], self.gone_s[row] = False, now
        self.picture.add(self._capacity(row), span, -1)
        self.weakest.append(float(self.picture.strength.min()))
        self._later(now + float(self.fate.returns_s[row]), JOIN, 0)
        for which in sorted(self.on.pop(row, ())):
            session = self.sessions[which]
            self._release(which, session, now)
            self.reroutes += 1
            self._route(which, session, now + self.scene.detect_ms / 1000)

    def _ask(self, which: int, now: float) -> None:
        self.sessions[which] = session = _Session(self.fate.asks[which][1], now)
        self._route(which, session, now)

    def _route(self, which: int, session: _Session, now: float) -> None:
        """Find a route for what is left; nodes that turn out to be gone cost a detection each time."""
        left = Demand(
            prompt_tokens=session.demand.prompt_tokens + int(session.done),
            new_tokens=max(1, session.demand.new_tokens - int(session.done)),
        )
        avoid: set[str] = set()
        for _ in range(self.scene.attempts):
            session.turn += 1
            rows, view, rtt = self._view(which, session.turn, now)
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

    def _view(self, which: int, turn: int, now: float) -> tuple[dict[str, int], Table, dict[str, float]]:
        """The nodes that a client knows of: rows by name, their table, and its round trips to them."""
        listed = np.flatnonzero(self.alive | (self.gone_s > now - self.scene.listed_s))
        rows = self.fate.known(which, turn, listed, self.scene.view)
        view = self.picture.table(rows, self.start[rows], self.end[rows])
        mine = np.sqrt(((self.fleet.places[rows] - self.fleet.places[self.fate.home(which)]) ** 2).sum(-1))
        rtt_ms = dict(zip(view.nodes, (mine + 1.0).tolist(), strict=True))
        return dict(zip(view.nodes, rows.tolist(), strict=True)), view, rtt_ms

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
            self.fullest = max(self.fullest, float(self.load[row]))
            self.on.setdefault(row, set()).add(which)
        self._later(now + route.expected_ms / 1000, END, which * 1000 + session.turn % 1000)

    def _release(self, which: int, session: _Session, now: float) -> None:
        """Take a session off its route, and count what was made on it."""
        spent_s = max(0.0, now - session.since_s)
        in_time_s = max(0.0, min(now, self.scene.seconds) - session.since_s)
        most = session.demand.new_tokens - session.done
        self.tokens += min(most, in_time_s * 1000 / session.ms_per_token)
        session.done += min(max(0.0, most - 1.0), spent_s * 1000 / session.ms_per_token)
        for row, share in zip(session.rows, session.loads, strict=True):
            self.load[row] = max(0.0, self.load[row] - share)
            self.on.get(row, set()).discard(which)

    def _finish(self, code: int, now: float) -> None:
        which, turn = divmod(code, 1000)
        session = self.sessions.get(which)
        if session is None or session.turn % 1000 != turn or session.route is None:
            return
        self._release(which, session, now)
        del self.sessions[which]
        self.latencies[which] = now - session.begun_s
        self.speeds.append(session.demand.new_tokens / (now - session.begun_s))
        self.hops.append(len(session.rows))

    def _told(self) -> Told:
        took = list(self.latencies.values())
        p50, p95 = np.percentile(took, [50, 95]) if took else (np.nan, np.nan)
        return Told(
            asked=len(self.fate.asks),
            finished=len(took),
            failed=self.failed,
            reroutes=self.reroutes,
            tokens_per_s=self.tokens / self.scene.seconds,
            latency_mean_s=_mean(took),
            latency_p50_s=float(p50),
            latency_p95_s=float(p95),
            session_tokens_per_s=float(np.median(self.speeds)) if took else float("nan"),
            stages=_mean(self.hops),
            weakest_requests_per_s=_mean(self.weakest),
            fullest=self.fullest,
        )


def _mean(of: Sequence[float]) -> float:
    return float(np.mean(of)) if of else float("nan")


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
