"""Many runs, one engine at a time; each record is in the store before the next run begins."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from metainf.domain import Record, Workload
from metainf.engines.measurable import Measurable
from metainf.hosts.pictures import Sketch
from metainf.measure.asked import concurrency
from metainf.measure.monitor import BUSY_SHARE
from metainf.measure.order import Layout, Order, Planned, is_hopeless, lay_out
from metainf.measure.process import EngineEnded, NotReady
from metainf.measure.recipes import is_plain
from metainf.measure.serving import LEAST_S, Garbage, Patience, Served, Writing, started
from metainf.measure.trial import SOURCE, Answers, Rules, TooSlow, Unanswered, reference_answers, run_trial
from metainf.measure.words import Request
from metainf.store import Filter, Store

EngineOf = Callable[[str], Measurable]
Serve = Callable[[Planned], AbstractContextManager[Served]]
Prompts = tuple[Request, ...] | tuple[Sketch, ...]
TRIES = 2
"""To ask the unaccelerated method for its answers."""


@dataclass(frozen=True)
class Progress:
    """Where a sweep stands: `words` is what runs now, `left_s` what is expected to remain."""

    done: int
    total: int
    words: str
    left_s: float


Tell = Callable[[Progress], None]


@dataclass
class Swept:
    """What a sweep gave. `records` are named by their method, earlier ones of the campaign first; `unmade`
    counts the runs that the time limit left, `skipped` those that would have failed again."""

    campaign: str
    records: list[tuple[str, Record]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    resumed: int = 0
    unmade: int = 0
    skipped: int = 0
    warnings: list[str] = field(default_factory=list)


class Seats:
    """The one engine that runs. It stays for the next run of the same launch where both may share it.
    `writing` hears of weights that are written for it."""

    def __init__(self, engine_of: EngineOf, rules: Rules, port: int | None) -> None:
        self._engine_of, self._rules, self._port = engine_of, rules, port
        self._stack = ExitStack()
        self._served: Served | None = None
        self._command = ""
        self.writing: Writing | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    @contextmanager
    def serve(self, planned: Planned, patience: Patience | None = None) -> Iterator[Served]:
        """The engine of a run, started if need be. It ends after an error, and where it keeps prefixes that
        the next run must not find. `patience` instead of the rules'."""
        assert planned.launch is not None
        command = planned.launch.command
        served = self._served
        if (
            served is None
            or command != self._command
            or served.process is None
            or served.process.poll() is not None
        ):
            self.clear()
            run = planned.run
            run.subject.write(run.subject.model, run.launched, self.writing)
            engine = self._engine_of(run.method.engine)
            served = self._stack.enter_context(
                started(engine, planned.launch, patience or self._rules.patience, self._port)
            )
            self._served, self._command = served, command
        try:
            yield served
        except BaseException:
            self.clear()
            raise
        if not planned.shares and not served.forget():
            self.clear()

    def clear(self) -> None:
        """End the engine."""
        self._served = None
        self._stack.close()


def prepare(
    order: Order, store: Store | None, engine_of: EngineOf, stamp: str, resume: bool = False
) -> Layout:
    """Lay an order out. `stamp` dates a new campaign; with `resume` the newest campaign of the same order
    in the store goes on, and the runs that it holds are not made again."""
    earlier: list[Record] = []
    if store is not None:
        earlier = list(store.query(Filter(source=SOURCE, model=order.subject.model.name)))
    campaign = order.campaign
    if campaign is None:
        made = [r.provenance.campaign or "" for r in earlier] if resume else []
        same = [name for name in made if name.endswith(f"-{order.mark}")]
        campaign = same[-1] if same else f"measure-{stamp}-{order.mark}"
        return lay_out(order, engine_of, campaign, earlier)
    mine = earlier if resume else [r for r in earlier if r.provenance.campaign != campaign]
    return lay_out(order, engine_of, campaign, mine)


def sweep(
    order: Order,
    layout: Layout,
    store: Store | None,
    engine_of: EngineOf,
    running: Served | None = None,
    tell: Tell = lambda _: None,
) -> Swept:
    """Make the runs of a layout. `running` is a server that was not started here and serves them all.

    ^C and errors that concern the question leave the finished runs in the store and no process behind.
    """
    result = Swept(layout.campaign, list(layout.done), list(layout.refused), resumed=len(layout.done))
    state = State(order, layout)
    with Seats(engine_of, order.rules, order.port) as seats:

        def serve(planned: Planned) -> AbstractContextManager[Served]:
            return _as_it_is(running) if running is not None else seats.serve(planned)

        for place, planned in enumerate(layout.runs):
            if planned.pair in state.hopeless:
                result.skipped += 1
                continue
            if state.over(planned):
                result.unmade = len(layout.runs) - place
                break
            words = f"{planned.name} on {planned.run.traffic.name}, repeat {planned.run.trial + 1}"
            now = Progress(place, len(layout.runs), words, state.left_s(place))
            tell(now)
            seats.writing = _told(tell, now)
            record = state.make(planned, serve)
            if store is not None:
                store.add([record])
            result.records.append((planned.name, record))
    tell(Progress(len(layout.runs) - result.unmade, len(layout.runs), "done", 0.0))
    result.warnings = warnings([record for _, record in result.records[result.resumed :]])
    result.warnings += state.doubts()
    return result


def _told(tell: Tell, now: Progress) -> Writing:
    """Tells of weights that are written before a run."""
    return lambda done, total: tell(
        replace(now, words=f"{now.words}: writing its weights, {done} of {total} tensors")
    )


class State:
    """What a sweep learns as it goes: answers of the plain method, lengths, failures, how fast it is."""

    def __init__(self, order: Order, layout: Layout) -> None:
        self.order, self.layout = order, layout
        self.hopeless: set[tuple[str, str]] = set()
        self._plain: dict[Prompts, tuple[str, ...] | None] = {}
        self._own: dict[tuple[str, Prompts], tuple[str, ...]] = {}
        self._lengths: dict[tuple[object, ...], Workload] = {}
        self.unproven: dict[str, set[str]] = {}
        self._unanswered = ""
        self._start_s = time.monotonic()
        self._expected_s = self._taken_s = 0.0
        for _, record in layout.done:
            self._learn(record)

    def make(self, planned: Planned, serve: Serve, rules: Rules | None = None) -> Record:
        """Make one run; where it needs the plain method's answers and they are not known, ask for them.

        A method answers the reference prompts once in a sweep: greedy answers do not depend on the traffic.
        `rules` instead of the order's.
        """
        begun_s, traffic, rules = time.monotonic(), planned.run.traffic, rules or self.order.rules
        asked = traffic.reference
        if asked and asked not in self._plain and not is_plain(planned.run.method):
            self._plain[asked] = self._asked_again(asked, serve, rules.patience)
        made = run_trial(
            planned.run,
            lambda: serve(planned),
            Answers(self._plain.get(asked), self._own.get((planned.name, asked))),
            self._lengths.get(_task(traffic.name, concurrency(traffic.pacing), len(traffic.requests))),
            rules,
        )
        if made.answers:
            self._own.setdefault((planned.name, asked), made.answers)
        if is_plain(planned.run.method) and made.answers:
            self._plain[asked] = self._plain.get(asked) or made.answers
        self._learn(made.record)
        if is_hopeless(made.record):
            self.hopeless.add(planned.pair)
        techniques = {t.kind: t for t in planned.run.method.techniques if getattr(t, "enabled", True)}
        silent = set(made.unproven) & techniques.keys() - {"batching", "flags"}
        if silent:
            self.unproven.setdefault(planned.name, set()).update(silent)
        self._expected_s += planned.expected_s
        self._taken_s += time.monotonic() - begun_s
        return made.record

    def doubts(self) -> list[str]:
        """What speaks against trusting the methods: no sign of one at work, no answers to hold them to."""
        said = [
            f"{name}: the engine gives no sign of {', '.join(sorted(kinds))} at work, nor against it"
            for name, kinds in self.unproven.items()
        ]
        if self._unanswered:
            said.append(
                "the unaccelerated method did not answer the reference prompts, so the agreement of the "
                f"others with it is not known ({self._unanswered})"
            )
        return said

    def over(self, planned: Planned) -> bool:
        """Whether the time limit has no room for one more run."""
        limit = self.order.time_limit_s
        return (
            limit is not None and time.monotonic() - self._start_s + self._scaled(planned.expected_s) > limit
        )

    def left_s(self, place: int) -> float:
        """Seconds that the runs from `place` on may take, corrected by how long the others took."""
        return self._scaled(sum(each.expected_s for each in self.layout.runs[place:]))

    def _scaled(self, expected_s: float) -> float:
        return expected_s * (self._taken_s / self._expected_s if self._expected_s else 1.0)

    def _learn(self, record: Record) -> None:
        work = record.setting.workload
        if record.metrics is not None:
            self._lengths[_task(work.name, work.concurrency, work.num_requests)] = work

    def _asked_again(self, asked: Prompts, serve: Serve, patience: Patience) -> tuple[str, ...] | None:
        """Answers of a plain method that was measured before this sweep went on (its record stays), or that
        is not to be measured at all. A failure is tried once more while there is time, and told."""
        plain = next((each for each in self.layout.plain if each.run.traffic.reference == asked), None)
        if plain is None or not (
            self.order.asks_plain
            or any(record.method.engine == plain.run.method.engine for _, record in self.layout.done)
        ):
            return None
        until_s, why = time.monotonic() + patience.within(patience.run_s), ""
        for _ in range(TRIES):
            try:
                with serve(plain) as served:
                    left_s = max(LEAST_S, until_s - time.monotonic())
                    return reference_answers(served, plain.run.traffic, left_s)
            except (EngineEnded, NotReady, Garbage, TooSlow, Unanswered) as error:
                why = str(error)
            if time.monotonic() >= until_s:
                break
        self._unanswered = why
        return None


def _task(name: str | None, in_flight: float | None, requests: int | None) -> tuple[object, ...]:
    """Tells traffics of one sweep apart in what records keep of them."""
    return name, in_flight, requests


@contextmanager
def _as_it_is(served: Served) -> Iterator[Served]:
    yield served


def warnings(records: Sequence[Record]) -> list[str]:
    """What speaks against trusting the numbers."""
    said = []
    conditions = [r.provenance.conditions for r in records if r.provenance.conditions is not None]
    busy = [c for c in conditions if (c.other_cpu_share or 0.0) > BUSY_SHARE]
    if busy:
        worst = max(c.other_cpu_share or 0.0 for c in busy)
        said.append(
            f"other programs used up to {worst:.0%} of the cores during {len(busy)} of {len(conditions)} "
            "runs: measure again on a quiet machine before you decide by these numbers"
        )
    return said
