"""Measure: from what was asked to runs on this machine, and what they showed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from metainf.api.measured import Measurement, measurement
from metainf.api.planning import picked
from metainf.domain import BadInput, Hardware, Method, Model, NotSupported

if TYPE_CHECKING:
    from metainf.engines.measurable import Measurable
    from metainf.engines.serving import ServingEngine
    from metainf.measure.order import Layout, Order
    from metainf.measure.serving import Served, Subject, Writing
    from metainf.measure.sweep import Tell
    from metainf.store import Store

DEFAULT_METHODS = ("baseline", "continuous")
DEFAULT_WORKLOADS = ("short_chat",)
DEFAULT_ENGINE = "llama.cpp"
ON_CPU = ("llama.cpp", "openvino")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Measuring:
    """What to measure. Absent parts are the lightest: SmolLM2 in llama.cpp, short chats, one at a time
    against continuous batching.

    `methods` are recipes (`static-8`, `prefix+lookup`), methods as JSON, or `@file`. `in_flight` gives one
    traffic each; `rate_per_s` arrivals by chance instead. `url` is a server that runs already; `hardware`
    is what it runs on where that is not this machine. `device` picks this machine's cpu or gpu. `plan`: only
    so many of the runs (each with its repeats), those that would most likely change a choice.
    """

    model: str | None = None
    workloads: Sequence[str] = DEFAULT_WORKLOADS
    engine: str | None = None
    methods: Sequence[str] = ()
    in_flight: Sequence[int] = ()
    rate_per_s: float | None = None
    requests: int | None = None
    repeats: int = 2
    seed: int = 0
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    hardware: str | None = None
    device: str | None = None
    port: int | None = None
    campaign: str | None = None
    resume: bool = False
    time_limit_s: float | None = None
    run_limit_s: float = 900.0
    limits: tuple[float | None, float | None, float | None] = (None, None, None)
    plan: int | None = None
    offline: bool = False


@dataclass(frozen=True)
class Prepared:
    """An order laid out: what would run, and how long it may take; of a plan also why (by `Planned.pair`)."""

    order: "Order"
    layout: "Layout"
    engine_of: "Callable[[str], Measurable]"
    running: "Served | None" = None
    why: "Mapping[tuple[str, str], str]" = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """One for each run that is to be made."""
        from metainf.measure.asked import concurrency

        return [
            {
                "method": each.name,
                "workload": each.run.traffic.name,
                "in_flight": concurrency(each.run.traffic.pacing),
                "requests": len(each.run.traffic.requests),
                "repeat": each.run.trial + 1,
                "expected_s": round(each.expected_s, 1),
                "command": each.run.command,
                **({"why": self.why[each.pair]} if each.pair in self.why else {}),
            }
            for each in self.layout.runs
        ]


def prepare_measuring(asked: Measuring, store: "Store | None" = None) -> Prepared:
    """Lay out what was asked; nothing starts. Raises BadInput, UnknownName, NotSupported and MissingExtra."""
    from metainf import engines
    from metainf.api.measuring_pictures import asks_for_pictures, prepare_drawing
    from metainf.measure.asking import Load, traffics_of
    from metainf.measure.monitor import free_gib
    from metainf.measure.order import Order
    from metainf.measure.serving import Patience, serving_engine
    from metainf.measure.sweep import prepare
    from metainf.measure.trial import Rules
    from metainf.measure.words import Limits

    if asks_for_pictures(asked):
        return prepare_drawing(asked, store)

    def engine_of(name: str) -> "ServingEngine":
        return serving_engine(engines.engine(name))

    load = Load(asked.in_flight, asked.rate_per_s, asked.requests, asked.seed)
    traffics = [traffic for name in asked.workloads for traffic in traffics_of(name, load)]
    running = None if asked.url is None else _running(asked, engine_of)
    subject = subject_of(asked, running)
    order = Order(
        subject,
        _methods(asked, engine_of),
        traffics,
        repeats=asked.repeats,
        campaign=asked.campaign,
        time_limit_s=asked.time_limit_s,
        rules=Rules(Patience(run_s=asked.run_limit_s), Limits(*asked.limits)),
        port=asked.port,
        room_gib=None if running else free_gib(),
        launches=running is None,
        asks_plain=asked.plan is not None,
    )
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    layout = prepare(order, store, engine_of, stamp, asked.resume)
    if running is None:
        programs_are_here(layout)
    if asked.plan is None:
        return Prepared(order, layout, engine_of, running)
    if asked.plan < 1:
        raise BadInput(f"expected at least 1 run to plan, found {asked.plan}")
    layout, why = picked(layout, asked.plan, store, asked.time_limit_s)
    return Prepared(order, layout, engine_of, running, why)


def measure(prepared: Prepared, store: "Store | None", tell: "Tell | None" = None) -> Measurement:
    """Make the runs; each record is in the store as it is made. `tell` hears where it stands."""
    from metainf.measure.sweep import sweep

    said = (lambda _: None) if tell is None else tell
    swept = sweep(prepared.order, prepared.layout, store, prepared.engine_of, prepared.running, said)
    return measurement(swept)


def _methods(asked: Measuring, engine_of: "Callable[[str], ServingEngine]") -> list[tuple[str, Method]]:
    from metainf.measure.recipes import methods_of

    if asked.url is not None and not asked.methods:
        return [("as it runs", Method(engine=asked.engine or "unknown"))]
    if asked.url is not None and asked.engine is None:
        raise BadInput("expected the engine that answers at this URL, to which the method belongs: --engine")
    engine = engine_of(asked.engine or DEFAULT_ENGINE)
    found: dict[str, tuple[str, Method]] = {}
    for text in asked.methods or DEFAULT_METHODS:
        for name, method in methods_of(text, engine, lambda path: Path(path).read_text(encoding="utf-8")):
            found.setdefault(method.id, (name, method))
    if asked.url is not None and len(found) > 1:
        raise BadInput(f"a server that runs already has one method, found {len(found)}: name the one it runs")
    return list(found.values())


def subject_of(asked: Measuring, running: "Served | None") -> "Subject":
    """The model with its weights and this machine, as an engine needs them. Raises BadInput, NotSupported."""
    from metainf.api.catalogue import model
    from metainf.measure.serving import Subject
    from metainf.measure.weights import SMOLLM2, bundled

    engine = asked.engine or DEFAULT_ENGINE
    if asked.model is None and running is not None:
        raise BadInput(f"expected the name of the model that runs at {asked.url}: --model")
    if running is not None:
        facts = model(str(asked.model), asked.offline)
        return Subject(facts, hardware_here(asked, engine))
    text = str(bundled()) if asked.model is None or asked.model == SMOLLM2 else asked.model
    path = Path(text).expanduser().resolve()
    if not path.exists():
        facts = model(text, asked.offline)
        return _placed(Subject(facts, hardware_here(asked, engine)), None, engine)
    facts, size_gib = _named(model(str(path), asked.offline), path), _size_gib(path)
    subject = Subject(facts, hardware_here(asked, engine), weights_gib=size_gib)
    return _placed(subject, path, engine)


def _placed(subject: "Subject", path: Path | None, engine: str) -> "Subject":
    """With the place of its weights: a file's or folder's, and where they can be written anew those of other
    formats, which are named when runs are laid out and written when they are made."""
    from metainf.measure.checkpoints import located_checkpoint
    from metainf.measure.weights import located

    def there(model: Model) -> Model:
        return model if path is None else model.model_copy(update={"source": str(path)})

    rewrite = None
    if (path is None and engine in ON_CPU) or (path is not None and path.suffix == ".gguf"):
        rewrite = located
    elif path is not None and path.is_dir():
        rewrite = located_checkpoint

    def locate(model: Model, method: Method) -> tuple[Model, Method]:
        return rewrite(there(model), method, write=False) if rewrite else (there(model), method)

    def write(model: Model, method: Method, writing: "Writing | None") -> None:
        if rewrite:
            rewrite(there(model), method, progress=writing)

    return replace(subject, locate=locate, write=write)


def _named(facts: Model, path: Path) -> Model:
    """A file's or folder's own facts under the catalogue's name, where it is called so and shapes agree."""
    from metainf import catalog
    from metainf.catalog.models import lookup

    found = lookup(path.name) if path.suffix == ".gguf" or path.is_dir() else None
    if found is None:
        return facts
    known = catalog.models()[found[0]]
    same = (known.num_layers, known.hidden_size) == (facts.num_layers, facts.hidden_size)
    return facts.model_copy(update={"name": known.name, "family": known.family}) if same else facts


def hardware_here(asked: Measuring, engine: str) -> Hardware:
    """This machine's CPU or GPU, or what was stated of a server elsewhere."""
    from metainf import catalog

    if asked.hardware is not None:
        return catalog.parse_hardware(asked.hardware)[0]
    if asked.url is not None and urlsplit(asked.url).hostname not in LOOPBACK:
        raise BadInput(f"expected the hardware behind {asked.url}, such as --hardware 2xL4, found none")
    if asked.device not in (None, "cpu", "gpu"):
        raise BadInput(f"expected cpu or gpu as the device, found {asked.device!r}")
    found = catalog.detect()
    kind = asked.device or ("cpu" if engine in ON_CPU else None)
    fitting = [each for each in found if kind is None or (each.device.kind == "cpu") == (kind == "cpu")]
    if not fitting:
        raise NotSupported(f"expected a {kind} on this machine, found none")
    return fitting[0]


def _running(asked: Measuring, engine_of: "Callable[[str], ServingEngine]") -> "Served":
    from metainf.measure.serving import Served, model_at
    from metainf.measure.words import Endpoint

    base = str(asked.url).rstrip("/").removesuffix("/v1")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname:
        raise BadInput(f"expected a URL such as http://127.0.0.1:8000, found {asked.url!r}")
    endpoint = Endpoint(base, "", asked.api_key)
    endpoint = Endpoint(base, model_at(endpoint), asked.api_key)
    return Served(endpoint, None if asked.engine is None else engine_of(asked.engine))


def programs_are_here(layout: "Layout") -> None:
    from metainf.measure.programs import runnable

    for argv in {each.launch.argv for each in layout.runs if each.launch is not None}:
        runnable(argv)


def _size_gib(path: Path) -> float:
    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.gguf")]
    return sum(file.stat().st_size for file in files) / 2**30
