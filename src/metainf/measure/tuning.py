"""The runs of `metainf tune`: each is made as its search decides, stored, and told to the search.

One engine runs at a time. The unaccelerated method of each engine gives the answers that the others of that
engine are held against; it is run itself at the end if the search did not, so that the winner has something
to be compared with.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from metainf.domain import Record
from metainf.measure.earlier import Aim
from metainf.measure.order import Layout, Order, Planned
from metainf.measure.serving import LEAST_S, Served
from metainf.measure.sweep import EngineOf, Progress, Seats, State, Tell, warnings
from metainf.measure.trial import Rules
from metainf.measure.tune import Ran, Search, Try, Verdict, step, stopped
from metainf.store import Store


@dataclass(frozen=True)
class Part:
    """One engine's share of a search: how its runs are made, and its unaccelerated method."""

    order: Order
    layout: Layout

    @property
    def plain(self) -> Planned | None:
        return next(iter(self.layout.plain), None)


@dataclass(frozen=True)
class Contest:
    """Candidates of one task: `planned` and `part_of` (the place of its part) for each of the search's."""

    aim: Aim
    search: Search
    planned: tuple[Planned, ...]
    part_of: tuple[int, ...]
    parts: tuple[Part, ...]


@dataclass
class Tuned:
    """How a search went. `records` are named by their method, `plain` are the unaccelerated ones of each part
    that was run; `cut` counts runs that the time limit ended, of which nothing is kept."""

    search: Search
    verdict: Verdict
    records: list[tuple[str, Record]] = field(default_factory=list)
    plain: dict[int, list[Record]] = field(default_factory=dict)
    interrupted: bool = False
    cut: int = 0
    doubts: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What speaks against trusting the numbers and the methods."""
        return [*warnings([record for _, record in self.records]), *self.doubts]


def tuned(contest: Contest, store: Store | None, engine_of: EngineOf, tell: Tell = lambda _: None) -> Tuned:
    """Make the runs that the search asks for. ^C ends it in order: what was run is stored, and the verdict is
    on that."""
    result = Tuned(contest.search, stopped(contest.search, "nothing was run"))
    first = contest.parts[0].order
    with Seats(engine_of, first.rules, first.port) as seats:
        floor = _Floor(contest, result, store, seats)
        seats.writing = lambda done, total: tell(
            floor.standing(f"writing the weights of a method, {done} of {total} tensors")
        )
        try:
            while isinstance(found := step(result.search), Try):
                tell(floor.standing(f"{_name(contest, found.place)}: {found.why}"))
                floor.run(found.place, found.at_most_s)
            result.verdict = found
            floor.compare(tell)
        except KeyboardInterrupt:
            result.interrupted = True
            result.verdict = stopped(result.search, "it was stopped")
    result.doubts = [said for state in floor.states for said in state.doubts()]
    tell(floor.standing("done"))
    return result


class _Floor:
    """Where the runs are made."""

    def __init__(self, contest: Contest, result: Tuned, store: Store | None, seats: Seats) -> None:
        self.contest, self.result, self.store, self.seats = contest, result, store, seats
        self.states = [State(part.order, part.layout) for part in contest.parts]

    def standing(self, words: str) -> Progress:
        """Where it stands, for a person."""
        now, made = self.result.search, len(self.result.records)
        return Progress(made, max(made, len(now.candidates)), words, max(0.0, self._left_s()))

    def run(self, place: int, at_most_s: float) -> None:
        """One run of a candidate."""
        trial = sum(other == place for other, _ in self.result.search.runs)
        ran = self._make(self.contest.planned[place], self.contest.part_of[place], trial, at_most_s)
        self.result.search = self._rescaled(self.result.search.after(place, ran))

    def compare(self, tell: Tell) -> None:
        """Run the unaccelerated method of the winner's engine if it was not, and the time allows."""
        winner = self.result.verdict.winner
        if winner is None:
            return
        where = self.contest.part_of[winner]
        plain = self.contest.parts[where].plain
        if plain is None or where in self.result.plain or plain.expected_s > self._left_s():
            return
        place = self._place(plain, where)
        if any(place == other for other, _ in self.result.search.runs):
            return
        tell(self.standing(f"{plain.name}: to compare with"))
        if place is None:
            self._make(plain, where, 0, self._left_s())
        else:
            self.run(place, self._left_s())
            self.result.verdict = stopped(self.result.search, self.result.verdict.why)

    def _place(self, plain: Planned, where: int) -> int | None:
        """The place of a run among the candidates; None where it is none of them."""
        for place, (each, part) in enumerate(zip(self.contest.planned, self.contest.part_of, strict=True)):
            if part == where and each.run.method == plain.run.method:
                return place
        return None

    def _left_s(self) -> float:
        now = self.result.search
        return now.rules.limit_s - now.spent_s

    def _make(self, planned: Planned, where: int, trial: int, at_most_s: float) -> Ran:
        """A run in its engine. One that ends for want of time says nothing of its method, and is not kept."""
        begun_s, part = time.monotonic(), self.contest.parts[where]
        asked = replace(planned, run=replace(planned.run, trial=trial, campaign=part.layout.campaign))
        patience = part.order.rules.patience
        at_most_s = max(at_most_s, LEAST_S)
        bounded = replace(patience, ends_s=begun_s + at_most_s)
        rules: Rules = replace(part.order.rules, patience=bounded)

        def serve(each: Planned) -> AbstractContextManager[Served]:
            return self.seats.serve(each, bounded)

        record = self.states[where].make(asked, serve, rules)
        outcome, seconds = record.outcome, time.monotonic() - begun_s
        hurried = seconds >= at_most_s - LEAST_S
        if outcome.kind == "failed" and outcome.reason == "timed_out" and hurried:
            self.result.cut += 1
            return Ran(None, seconds, error="the time limit ended it")
        if self.store is not None:
            self.store.add([record])
        self.result.records.append((planned.name, record))
        plain = part.plain
        if plain is not None and planned.run.method == plain.run.method and record.metrics is not None:
            self.result.plain.setdefault(where, []).append(record)
        quality = None if record.metrics is None else record.metrics.quality
        error = f"{outcome.reason}: {outcome.detail}" if outcome.kind == "failed" else None
        return Ran(self.contest.aim.value(record), seconds, quality, error)

    def _rescaled(self, now: Search) -> Search:
        """The candidates' seconds corrected by how long the runs took."""
        expected = [each.expected_s for each in self.contest.planned]
        taken = {place: ran.seconds for place, ran in now.runs}
        worked = [(ran.seconds, expected[place]) for place, ran in now.runs if ran.value is not None]
        scale = sum(s for s, _ in worked) / sum(e for _, e in worked) if worked else 1.0
        timed = [
            replace(one, seconds=max(taken.get(place, expected[place] * scale), LEAST_S))
            for place, one in enumerate(now.candidates)
        ]
        return replace(now, candidates=tuple(timed))


def _name(contest: Contest, place: int) -> str:
    return f"{contest.planned[place].name} in {contest.planned[place].run.method.engine}"
