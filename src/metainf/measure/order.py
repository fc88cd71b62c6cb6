"""What a sweep is to measure, laid out run by run before anything starts. Pure.

Repeats go round by round, methods one after another within each (A B A B), so that a machine that slows
down slows all of them. Within a round the traffics of one method follow each other and share an engine where
that is honest: where the launch is the same and the method says that no prefix is kept, so that no run finds
in the cache what an earlier one left there.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from metainf.domain import (
    Autoencoder,
    BadInput,
    DistilledModel,
    Method,
    NotSupported,
    PrefixCache,
    Record,
    Speculative,
)
from metainf.engines import Launch, requirement
from metainf.engines.measurable import Measurable
from metainf.measure.asked import asked_workload, bound_of, concurrency, paced
from metainf.measure.batches import sized
from metainf.measure.discretion import file_name
from metainf.measure.drawing import crude_s
from metainf.measure.recipes import is_plain
from metainf.measure.serving import Subject, launch_of, shown
from metainf.measure.trial import Rules, Run
from metainf.measure.words import Drawing, Work

START_S, DRAWER_START_S = 6.0, 12.0
CRUDE_TOKENS_PER_S, CRUDE_PROMPT_CHARACTERS_PER_S = 60.0, 1500.0
HOPELESS = ("unsupported", "out_of_memory")


@dataclass(frozen=True)
class Order:
    """Methods (each with a name to show) × traffics × repeats of one subject.

    `room_gib` is the memory that is free now (None: unknown). `launches` False: the server runs already.
    `asks_plain`: the unaccelerated method is asked for its answers even where it is not among the runs.
    """

    subject: Subject
    methods: Sequence[tuple[str, Method]]
    traffics: Sequence[Work]
    repeats: int = 1
    campaign: str | None = None
    time_limit_s: float | None = None
    rules: Rules = field(default_factory=Rules)
    port: int | None = None
    room_gib: float | None = None
    launches: bool = True
    asks_plain: bool = False

    @property
    def mark(self) -> str:
        """Tells orders apart by what they measure, whatever the number of repeats."""
        parts = [self.subject.model.id, self.subject.hardware.id]
        parts += sorted(method.id for _, method in self.methods)
        parts += sorted(repr(traffic) for traffic in self.traffics)
        return hashlib.blake2b("|".join(parts).encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Planned:
    """One run with the name of its method, its launch, and how long it may take."""

    name: str
    run: Run
    launch: Launch | None
    expected_s: float
    shares: bool

    @property
    def pair(self) -> tuple[str, str]:
        """Method and traffic, whatever the repeat."""
        return self.run.method.id, repr(self.run.traffic)


@dataclass(frozen=True)
class Layout:
    """The runs in their order; `done` were made before, `plain` are the first runs of the
    unaccelerated method, done or not; `refused` tells why a method is left out."""

    campaign: str
    runs: tuple[Planned, ...]
    done: tuple[tuple[str, Record], ...] = ()
    plain: tuple[Planned, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def expected_s(self) -> float:
        """Seconds for all that is left."""
        return sum(each.expected_s for each in self.runs)


def lay_out(
    order: Order, engine_of: Callable[[str], Measurable], campaign: str, earlier: Sequence[Record] = ()
) -> Layout:
    """The runs of an order; those whose record is among `earlier` of the campaign are done.

    Raises BadInput for an order without runs, NotSupported where not one method can be launched here.
    """
    if order.repeats < 1 or not order.methods or not order.traffics:
        raise BadInput("expected at least one method, one workload and one repeat to measure")
    mine = {r.provenance.location: r for r in earlier if r.provenance.campaign == campaign}
    durations = _durations(earlier)
    runs: list[Planned] = []
    done: list[tuple[str, Record]] = []
    plain: list[Planned] = []
    refused: dict[str, str] = {}
    hopeless: set[tuple[str, str]] = set()
    ready = _ready(order, engine_of, refused)
    for trial in range(order.repeats):
        for name, first, launch in ready:
            run = replace(first, trial=trial, campaign=campaign)
            prefix = run.method.get(PrefixCache)
            drawn = isinstance(run.traffic, Drawing)  # of which nothing is kept from one to the next
            shares = drawn or (prefix is not None and not prefix.enabled)
            planned = Planned(name, run, launch, _expected_s(run, durations), shares)
            if trial == 0 and is_plain(run.method):
                plain.append(planned)
            record = mine.get(run.key)
            if record is not None:
                done.append((name, record))
                if is_hopeless(record):
                    hopeless.add(planned.pair)
            elif planned.pair not in hopeless:
                runs.append(planned)
    return Layout(campaign, tuple(runs), tuple(done), tuple(plain), tuple(refused.items()))


def is_hopeless(record: Record) -> bool:
    """Whether a run failed so that it would fail again."""
    return record.outcome.kind == "failed" and record.outcome.reason in HOPELESS


def _ready(
    order: Order, engine_of: Callable[[str], Measurable], refused: dict[str, str]
) -> list[tuple[str, Run, Launch | None]]:
    """What can be launched; the unaccelerated method first, for the others are compared with its answers."""
    found = []
    for name, asked in sorted(order.methods, key=lambda each: not is_plain(each[1])):
        for traffic in order.traffics:
            method, launch, launched = asked, None, asked
            try:
                if order.launches:
                    method = sized(asked, concurrency(traffic.pacing))
                    launch, launched = launch_of(engine_of(asked.engine), order.subject, method, traffic)
                    _must_fit(order, method, traffic)
                if not isinstance(traffic, Drawing):
                    paced(traffic, method)
            except NotSupported as error:
                refused[name] = str(error)
                continue
            command = None if launch is None else shown(launch.argv)
            run = Run(order.subject, _without_folders(method), launched, traffic, command=command)
            found.append((name, run, launch))
    if not found:
        raise NotSupported("; ".join(f"{name}: {why}" for name, why in refused.items()))
    return found


def _without_folders(method: Method) -> Method:
    """As records keep it: models and decoders by their file's name, as folders are nobody's business."""
    named: dict[type, str] = {Speculative: "draft_model", DistilledModel: "model", Autoencoder: "name"}
    items = []
    for item in method.techniques:
        field = named.get(type(item))
        told = None if field is None else getattr(item, field)
        changed: dict[str, str] = {} if field is None or told is None else {field: file_name(told)}
        items.append(item.model_copy(update=changed) if changed else item)
    return method.model_copy(update={"techniques": tuple(items)})


def _must_fit(order: Order, method: Method, traffic: Work) -> None:
    """NotSupported, with the arithmetic, where a method needs more memory than there is."""
    subject, room = order.subject, order.room_gib
    if isinstance(traffic, Drawing):
        work = asked_workload(traffic)
    else:
        longest = max((len(request.prompt) for request in traffic.requests), default=0)
        work = bound_of(traffic, max(1, longest // 3))
    found = requirement(subject.model, method, subject.hardware, work)
    if found is not None and not found.fits:
        raise NotSupported(found.reason)
    least = subject.weights_gib if found is None else found.weights_gib + found.kv_gib_per_sequence
    if found is not None and isinstance(traffic, Drawing):
        least = found.least_gib
    if room is not None and least is not None and least > room:
        raise NotSupported(
            f"needs at least {least:.1f} GiB for its weights and {_piece(traffic)}, {room:.1f} GiB "
            "are free now: end other programs, or take a smaller model"
        )


def _piece(traffic: Work) -> str:
    return "one batch of pictures" if isinstance(traffic, Drawing) else "the cache of one request"


def _durations(earlier: Sequence[Record]) -> Mapping[tuple[str | None, str | None], list[float]]:
    """Seconds for each request of earlier runs, by (method, workload) and by workload alone."""
    found: dict[tuple[str | None, str | None], list[float]] = {}
    for record in earlier:
        conditions, work = record.provenance.conditions, record.setting.workload
        if record.metrics is None or conditions is None or conditions.duration_s is None:
            continue
        plain = unversioned(record.method).id
        each_s = conditions.duration_s / (work.num_requests or 1)
        for key in ((plain, work.name), (None, work.name)):
            found.setdefault(key, []).append(each_s)
    return found


def unversioned(method: Method) -> Method:
    """The method without the engine's version, as it was asked for."""
    return method.model_copy(update={"engine_version": None})


def _expected_s(run: Run, durations: Mapping[tuple[str | None, str | None], list[float]]) -> float:
    """From earlier runs of the workload by this or any method, else a crude guess."""
    traffic = run.traffic
    count = traffic.pictures if isinstance(traffic, Drawing) else len(traffic.requests)
    for key in ((unversioned(run.method).id, traffic.name), (None, traffic.name)):
        if key in durations:
            return START_S + count * median(durations[key])
    if isinstance(traffic, Drawing):
        return DRAWER_START_S + count * crude_s(run.subject.model, traffic)
    written = sum(request.output_tokens for request in traffic.requests)
    read = sum(len(request.prompt) for request in traffic.requests)
    together = math.sqrt(min(concurrency(paced(traffic, run.method).pacing) or 4, 8))
    crude = written / (CRUDE_TOKENS_PER_S * together) + read / CRUDE_PROMPT_CHARACTERS_PER_S
    arrivals = max((request.at_s or 0.0 for request in traffic.requests), default=0.0)
    return START_S + max(crude, arrivals)
