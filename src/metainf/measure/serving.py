"""A server that can be measured: an engine that was started here, or one that runs already."""

import http.client
import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from metainf.domain import BadInput, Hardware, MetaInfError, Method, Model, NotSupported, Workload
from metainf.engines import Engine, Launch
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.measurable import Drawer, Measurable
from metainf.engines.serving import ServingEngine
from metainf.measure.asked import asked_workload, bound_of, roomy
from metainf.measure.batches import launched, one_sequence
from metainf.measure.discretion import discreet
from metainf.measure.process import DEATH_PATIENCE_S, Command, EngineProcess
from metainf.measure.programs import runnable
from metainf.measure.words import Drawing, Endpoint, Work

CHARACTERS_PER_TOKEN = 2.5
SPARE_TOKENS = 64
LEAST_S = 1.0
ANSWER_S = 10.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past any proxy of the environment, like the client and the engine's health."""


class Garbage(MetaInfError):
    """A server answered, but not as an OpenAI-compatible one does. `log` is what it wrote, where it was
    started here."""

    def __init__(self, message: str, log: str = "") -> None:
        self.log = log
        super().__init__(message)


@dataclass(frozen=True)
class Patience:
    """Seconds to wait: for an engine to be ready, for a whole run, and between SIGTERM and SIGKILL. `ends_s`
    is the time (of `time.monotonic`) by which all of it must be over, None where nothing bounds it."""

    ready_s: float = 300.0
    run_s: float = 900.0
    grace_s: float = 5.0
    ends_s: float | None = None

    def within(self, wanted_s: float) -> float:
        """Of so many seconds those that are left now; always one, in which to see that it is late."""
        left_s = wanted_s if self.ends_s is None else self.ends_s - time.monotonic()
        return min(wanted_s, max(LEAST_S, left_s))


Locate = Callable[[Model, Method], tuple[Model, Method]]


Writing = Callable[[int, int], None]
"""Hears of tensors written, and of how many in all."""


def _where_it_is(model: Model, method: Method) -> tuple[Model, Method]:
    return model, method


def _nothing_to_write(model: Model, method: Method, writing: Writing | None) -> object:
    return None


@dataclass(frozen=True)
class Subject:
    """What is measured, and on what. `locate` gives the model with the place of its weights as its source,
    which records do not tell, for it differs from machine to machine, and writes none; `write` writes those
    that a method needs and are not there. `weights_gib` is their size."""

    model: Model
    hardware: Hardware
    locate: Locate = _where_it_is
    weights_gib: float | None = None
    write: Callable[[Model, Method, Writing | None], object] = _nothing_to_write


@dataclass(frozen=True)
class Mark:
    """Where an engine stood at one moment: its metrics, and how much it had logged."""

    metrics: str
    log_bytes: int


@dataclass(frozen=True)
class Served:
    """A server that answers. `process` is None for one that was not started here."""

    endpoint: Endpoint
    engine: Measurable | None = None
    process: EngineProcess | None = None

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    def log(self) -> str:
        return "" if self.process is None else self.process.log()

    def metrics(self) -> str:
        """The text of its metrics page; empty where it has none."""
        path = None if self.engine is None else self.engine.metrics
        return "" if path is None else fetch(self.endpoint, path) or ""

    def forget(self) -> bool:
        """Have it empty its prefix cache, where it can be told to: whether it says that it did."""
        path = None if self.engine is None else self.engine.forgets
        said = None if path is None else fetch(self.endpoint, path, b"")
        try:
            return bool(json.loads(said or "{}").get("success"))
        except (ValueError, AttributeError):
            return False

    def mark(self) -> Mark:
        """Where it stands now."""
        return Mark(self.metrics(), 0 if self.process is None else self.process.log_bytes())

    def evidence(self, before: Mark) -> Evidence | None:
        """What the engine says that it did since `before`; None of an unknown one."""
        if self.engine is None:
            return None
        after = self.metrics()
        recent = None if self.process is None else self.process.log(since=before.log_bytes)
        return self.engine.evidence(Reading(self.log(), before.metrics, after, recent))


def serving_engine(found: Engine) -> ServingEngine:
    """The engine as a server of language models. NotSupported for one that is none."""
    if isinstance(found, ServingEngine):
        return found
    raise NotSupported(f"{found.name} serves no language model over HTTP: name an image model to measure it")


def drawing_engine(found: Engine) -> Drawer:
    """The engine as one that draws. NotSupported for one that does not."""
    if isinstance(found, Drawer):
        return found
    raise NotSupported(f"{found.name} draws no pictures; diffusers does: --engine diffusers")


def launch_of(engine: Measurable, subject: Subject, method: Method, traffic: Work) -> tuple[Launch, Method]:
    """The command that serves this traffic by this method, and the method in the engine's own words.

    Raises NotSupported for a setting the engine lacks, BadInput where the weights are not found.
    """
    if isinstance(traffic, Drawing):
        if not isinstance(engine, Drawer):
            raise NotSupported(f"{engine.name} draws no pictures")
        model, located = subject.locate(subject.model, method)
        return engine.serve(model, located, subject.hardware, asked_workload(traffic)), method
    if not isinstance(engine, ServingEngine):
        raise NotSupported(f"{engine.name} serves no language model over HTTP")
    longest = max((request.prompt for request in (*traffic.requests, *traffic.warming)), key=len, default="")
    most_tokens = int(len(longest) / CHARACTERS_PER_TOKEN) + SPARE_TOKENS
    work: Workload = roomy(bound_of(traffic, most_tokens), engine.context_step, subject.model)
    asked = launched(method)
    model, located = subject.locate(subject.model, asked)
    try:
        return engine.launch(model, located, subject.hardware, work), asked
    except NotSupported:
        alone = one_sequence(asked)
        if alone is None:
            raise
        model, located = subject.locate(subject.model, alone)
        return engine.launch(model, located, subject.hardware, work), alone


@contextmanager
def started(engine: Measurable, launch: Launch, patience: Patience, port: int | None) -> Iterator[Served]:
    """The engine as a process, ready to answer; ended on leaving. Raises as `EngineProcess`, and Garbage."""
    command = Command(
        argv=runnable(launch.argv), address=engine.address, health=engine.health, env=launch.env,
        files=launch.files, port=port, ready_within_s=patience.within(patience.ready_s),
        grace_s=patience.grace_s,
    )  # fmt: skip
    with EngineProcess(command) as process:
        try:
            endpoint = Endpoint(process.base_url, model_at(Endpoint(process.base_url, "")))
        except Garbage as error:
            process.check(DEATH_PATIENCE_S)
            raise Garbage(str(error), process.log()) from None
        yield Served(endpoint, engine, process)


def model_at(endpoint: Endpoint) -> str:
    """The name by which a server calls its model. Garbage where it tells none."""
    text = fetch(endpoint, "/v1/models")
    try:
        found = json.loads(text or "")["data"][0]["id"]
    except (ValueError, LookupError, TypeError):
        said = "nothing" if text is None else repr(text[:200])
        raise Garbage(
            f"expected {endpoint.base_url}/v1/models to name a model, as OpenAI-compatible servers do, "
            f"found {said}"
        ) from None
    return str(found)


def fetch(endpoint: Endpoint, path: str, posted: bytes | None = None) -> str | None:
    """The text at a path, to which something may be posted; None where the server does not answer with
    success."""
    headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
    request = urllib.request.Request(endpoint.base_url.rstrip("/") + path, posted, headers)
    try:
        with _DIRECT.open(request, timeout=ANSWER_S) as answer:
            found: bytes = answer.read()
            return found.decode("utf-8", "replace")
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return None
    except ValueError:
        raise BadInput(f"expected a URL such as http://127.0.0.1:8000, found {endpoint.base_url!r}") from None


def shown(words: Sequence[str]) -> str:
    """A command line for a record: files by their last name, as folders are nobody's business."""
    return shlex.join([w.rpartition("/")[2] if w.startswith("/") else discreet(w) for w in words])
