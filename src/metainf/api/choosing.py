"""Select and size: the question, and the wiring from catalogue, engines and predictor to one answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf import catalog
from metainf.api.catalogue import hardware_of, model, workload_of
from metainf.api.checking import checker
from metainf.api.private import guarding, refused_elsewhere
from metainf.domain import (
    BadInput,
    Candidate,
    Excluded,
    Hardware,
    Method,
    Model,
    NotSupported,
    Objective,
    PrivacyAsked,
    Selection,
    UnknownName,
    Workload,
)

if TYPE_CHECKING:
    from metainf.learn.predictor import TrainedPredictor
    from metainf.selection import Sized

ENGINES = ("vllm", "sglang", "tensorrt-llm", "llama.cpp")
DRAWING_ENGINES = ("diffusers",)
ALLOWED = ("distilled",)
"""What may stand in for the model that was asked for: distilled models and autoencoders."""
_loaded: dict[str, "TrainedPredictor"] = {}


@dataclass(frozen=True)
class Question:
    """A decision to make. `hardware` as people write it ("1-4xL4"); `changes` are workload fields.

    A model or hardware may also be given as what it is, in place of its name. Of the `top` answers the
    first `explain` get reasons and nearest records, all of them where it is None. `allow`: see ALLOWED.
    `privacy` is a class that the answers of `select` keep to.
    """

    model: str | Model
    hardware: Sequence[str | Hardware]
    workload: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    engines: Sequence[str] = ENGINES
    top: int = 10
    predictor: Path | None = None
    offline: bool = False
    explain: int | None = None
    allow: Sequence[str] = ()
    privacy: PrivacyAsked | None = None

    def __post_init__(self) -> None:
        for word in self.allow:
            if word not in ALLOWED:
                raise UnknownName("substitute", word, ALLOWED)
        if self.top < 1:
            raise BadInput(f"expected at least 1 answer, found {self.top}")
        if self.explain is not None and self.explain < 0:
            raise BadInput(f"expected a number of answers to explain, found {self.explain}")


def select(question: Question) -> Selection:
    """Rank every method on every hardware. Raises NoFeasible, UnknownName, NotSupported, BadInput."""
    from metainf import selection

    subject, work = parts(question)
    predictor = load_predictor(question.predictor)
    predictor.require(subject, work)
    require_history(question.engines, subject, predictor)
    guard = guarding(question.privacy, question.hardware, subject, work)
    rules = selection.Rules(
        check=guard.check(checker(subject, work, predictor)),
        recovery=recovery(subject),
        command=guard.command(lambda hardware, method: command_of(subject, method, hardware, work)),
        notes=guard.notes(_noter(subject, work)),
        split=guard.split,
        guarded=guard.guarded if guard.told is not None else None,
        top=question.top,
    )
    found = selection.select(
        subject, work, question.objective, guard.hardware, predictor,
        _proposals(question.engines, subject, work, question.allow), rules,
    )  # fmt: skip
    told = _explained(predictor, found, found.ranked[: question.explain])
    return found.model_copy(update={"ranked": (*told, *found.ranked[len(told) :]), "privacy": guard.told})


def size(question: Question, rate_per_s: float, percentile: str | None = None) -> "tuple[Sized, ...]":
    """The cheapest deployments that serve a request rate under the limits (means, or a percentile)."""
    from metainf import selection

    _need_tokens(question)
    refused_elsewhere(question.privacy, "size")
    subject, work = parts(question)
    if work.concurrency is None and work.batch_size is None:
        raise BadInput("expected the concurrency that one replica is sized for, found none: --concurrency")
    predictor = load_predictor(question.predictor)
    predictor.require(subject, work)
    require_history(question.engines, subject, predictor)
    if percentile not in (None, "p50", "p90", "p95", "p99"):
        raise BadInput(f"expected a percentile of p50, p90, p95 or p99, found {percentile!r}")
    target = selection.Target.of(
        {"request_rate_per_s": rate_per_s, "top": question.top}
        | ({"percentile": percentile} if percentile else {})
    )
    return selection.size(
        subject, work, question.objective, hardware_of(question.hardware), predictor,
        _passing(_proposals(question.engines, subject, work), checker(subject, work, predictor)), target,
    )  # fmt: skip


def _need_tokens(question: Question) -> None:
    subject = _subject(question)
    if draws(subject):
        raise NotSupported(
            f"{subject.name} makes {subject.modality}, and only models that write tokens are sized for a "
            "rate of requests; the nearest that can be answered is `metainf select`, which tells images/s"
        )


def load_predictor(path: Path | None = None) -> "TrainedPredictor":
    """The shipped predictor, or that of a file; loaded once."""
    from metainf.learn import artifact
    from metainf.learn.predictor import TrainedPredictor

    key = str(path)
    if key not in _loaded:
        _loaded[key] = TrainedPredictor(artifact.read(path))
    return _loaded[key]


def command_of(subject: Model, method: Method, hardware: Hardware, work: Workload) -> str | None:
    """The launch command, None where the engine has no setting for a technique."""
    from metainf import engines

    try:
        return engines.engine(method.engine).launch(subject, method, hardware, work).command
    except NotSupported:
        return None


def recovery(subject: Model) -> dict[str, float]:
    """Share of quality that each number format keeps, where the catalogue knows."""
    formats = (
        "fp8",
        "int8",
        "awq",
        "gptq",
        "nvfp4",
        "mxfp4",
        "Q8_0",
        "Q6_K",
        "Q5_K_M",
        "Q4_K_M",
        "w8a8",
        "int4",
    )
    found = {name: catalog.quality(name, subject.name) or catalog.quality(name) for name in formats}
    return {name: delta.mean for name, delta in found.items() if delta is not None}


def parts(question: Question) -> tuple[Model, Workload]:
    """The model and the workload of a question. BadInput where the workload does not suit it."""
    work, subject = workload_of(question.workload, question.changes), _subject(question)
    if draws(subject):
        if work.input_tokens is not None or work.output_tokens is not None:
            raise BadInput(
                f"{subject.name} makes {subject.modality}: expected pixels, steps and a batch, found token "
                "lengths; leave the workload out"
            )
        return subject, work
    if work.input_tokens is None or work.output_tokens is None:
        lacking = "input" if work.input_tokens is None else "output"
        raise BadInput(
            f"expected lengths: {question.workload} tells no {lacking} tokens; add --{lacking}-tokens"
            if question.workload is not None
            else "expected a workload: --workload NAME (or a trace), or --input-tokens and --output-tokens"
        )
    return subject, work


def _subject(question: Question) -> Model:
    given = question.model
    return given if isinstance(given, Model) else model(given, question.offline)


def draws(subject: Model) -> bool:
    """Whether a model makes images or video."""
    return subject.modality in ("image", "video")


def require_history(names: Sequence[str], subject: Model, predictor: "TrainedPredictor") -> None:
    """NotSupported for an engine beside ENGINES that no run of the predictor's history used."""
    from metainf import engines

    if draws(subject) or tuple(names) == ENGINES:
        return
    own = predictor.own.engines.values() if predictor.own is not None else ()
    known = {*ENGINES, *DRAWING_ENGINES, *predictor.engines()}.union(*own)
    strange = [name for name in names if engines.engine(name).name not in known]
    if strange:
        raise NotSupported(
            f"no run of {', '.join(strange)} is in this predictor's history, so its speed cannot be "
            f"predicted: ask about {', '.join(ENGINES)}, or train a predictor with runs of it (metainf train)"
        )


def _proposals(
    names: Sequence[str], subject: Model, work: Workload, allow: Sequence[str] = ()
) -> Callable[[Hardware], list[Method]]:
    from metainf import engines
    from metainf.engines.stand_ins import stand_ins

    if draws(subject) and tuple(names) == ENGINES:
        names = DRAWING_ENGINES
    makers = [engines.engine(name) for name in names]
    others = bool(allow) and draws(subject)

    def proposals(hardware: Hardware) -> list[Method]:
        own = [method for maker in makers for method in maker.methods(subject, hardware, work)]
        return [*own, *stand_ins(subject, own)] if others else own

    return proposals


def _passing(
    proposals: Callable[[Hardware], list[Method]], check: Callable[[Hardware, Method], Excluded | None]
) -> Callable[[Hardware], list[Method]]:
    """The proposals that no check puts out."""

    def methods(hardware: Hardware) -> list[Method]:
        judged = [(method, check(hardware, method)) for method in proposals(hardware)]
        return [method for method, out in judged if out is None]

    return methods


def _noter(subject: Model, work: Workload) -> Callable[[Hardware, Method], tuple[str, ...]]:
    """What to mind of a pair: that another model draws, and what the engine's launch says."""
    from metainf import engines
    from metainf.engines.stand_ins import told

    def notes(hardware: Hardware, method: Method) -> tuple[str, ...]:
        other = told(method, subject)
        try:
            return other + engines.engine(method.engine).launch(subject, method, hardware, work).notes
        except NotSupported:
            return other

    return notes


def _explained(
    predictor: "TrainedPredictor", found: Selection, some: tuple[Candidate, ...]
) -> tuple[Candidate, ...]:
    """The candidates with their reasons and nearest records."""
    if not some:
        return ()
    pairs = [(candidate.hardware, candidate.method) for candidate in some]
    reasons = predictor.explain(found.model, found.workload, pairs)
    nearest = predictor.nearest(found.model, found.workload, pairs)
    told = [
        candidate.prediction.model_copy(update={"reasons": why, "nearest": near})
        for candidate, why, near in zip(some, reasons, nearest, strict=True)
    ]
    return tuple(
        candidate.model_copy(update={"prediction": prediction})
        for candidate, prediction in zip(some, told, strict=True)
    )
