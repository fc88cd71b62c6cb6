"""Measuring what draws: from what was asked to runs of pipelines on this machine."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metainf.domain import BadInput, DistilledModel, Method, Model, NotSupported, UnknownName

if TYPE_CHECKING:
    from metainf.api.measuring import Measuring, Prepared
    from metainf.engines.measurable import Drawer
    from metainf.measure.serving import Subject
    from metainf.measure.words import Drawing
    from metainf.store import Store

ENGINE = "diffusers"
DEFAULT_METHODS = ("baseline", "bf16+sdpa")
DEFAULT_WORKLOADS = ("image",)
PICTURES = ("image",)


def asks_for_pictures(asked: "Measuring") -> bool:
    """Whether a question is of a model that draws: by its engine, its workload, or its model."""
    from metainf.api.catalogue import model
    from metainf.measure.drawing import is_drawing

    if asked.url is not None or asked.engine not in (None, ENGINE):
        return False
    if asked.engine == ENGINE or any(is_drawing(name) for name in asked.workloads):
        return True
    try:
        return asked.model is not None and model(asked.model, offline=True).modality in PICTURES
    except UnknownName:
        return False


def prepare_drawing(asked: "Measuring", store: "Store | None" = None) -> "Prepared":
    """Lay out what was asked, without starting anything. Raises BadInput (pixels that the model cannot draw),
    UnknownName, NotSupported (a part that is not there, memory that does not suffice) and MissingExtra."""
    from metainf import engines
    from metainf.api.measuring import Prepared, programs_are_here
    from metainf.measure.monitor import free_gib
    from metainf.measure.order import Order
    from metainf.measure.serving import Patience, drawing_engine
    from metainf.measure.sweep import prepare
    from metainf.measure.trial import Rules

    def engine_of(name: str) -> "Drawer":
        return drawing_engine(engines.engine(name))

    _refuse_others(asked)
    subject = _subject(asked)
    order = Order(
        subject,
        _methods(asked, subject.model, engine_of),
        _drawings(asked, subject.model),
        repeats=asked.repeats,
        campaign=asked.campaign,
        time_limit_s=asked.time_limit_s,
        rules=Rules(Patience(run_s=asked.run_limit_s)),
        port=asked.port,
        room_gib=free_gib(),
    )
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    layout = prepare(order, store, engine_of, stamp, asked.resume)
    programs_are_here(layout)
    return Prepared(order, layout, engine_of)


def _refuse_others(asked: "Measuring") -> None:
    if asked.rate_per_s is not None or any(limit is not None for limit in asked.limits):
        raise BadInput("pictures are drawn batch after batch: leave --rate and limits of tokens out")
    if asked.plan is not None:
        raise BadInput("--plan is of language models: name the methods of a picture")
    if asked.model is None:
        raise BadInput(
            "expected a model that draws: a diffusers folder, a name, digits, or an architecture with random "
            "weights such as sdxl-like/small; --model"
        )


def _drawings(asked: "Measuring", model: Model) -> "list[Drawing]":
    from metainf.api.measuring import DEFAULT_WORKLOADS as OF_TEXT
    from metainf.measure.drawing import Batches, drawings_of

    names = DEFAULT_WORKLOADS if tuple(asked.workloads) == OF_TEXT else asked.workloads
    batches = Batches(asked.in_flight or (1,), asked.requests, asked.seed)
    return [drawing for name in names for drawing in drawings_of(name, model, batches)]


def _methods(
    asked: "Measuring", model: Model, engine_of: "Callable[[str], Drawer]"
) -> list[tuple[str, Method]]:
    from metainf.measure.picture_recipes import methods_of

    engine = engine_of(asked.engine or ENGINE)
    found: dict[str, tuple[str, Method]] = {}
    for text in asked.methods or DEFAULT_METHODS:
        for name, method in methods_of(
            text, model, engine, lambda path: Path(path).read_text(encoding="utf-8")
        ):
            found.setdefault(method.id, (name, method))
    return list(found.values())


def _subject(asked: "Measuring") -> "Subject":
    from metainf.api.catalogue import model
    from metainf.api.measuring import hardware_here
    from metainf.catalog.digits import are_trained, digits
    from metainf.measure.serving import Subject

    text = str(asked.model)
    facts = model(text, asked.offline)
    if facts.modality not in PICTURES:
        raise NotSupported(
            f"{facts.name} makes {facts.modality}, and pictures were asked for: name another model"
        )
    if facts.name in digits() and not are_trained():
        raise NotSupported(
            f"expected the weights of {facts.name}, found none: python benchmarks/train_digits.py makes them"
        )
    subject = Subject(facts, hardware_here(asked, ENGINE))
    path = Path(text).expanduser().resolve()
    if not path.exists():
        return subject
    return _stored(subject, path.parent if path.is_file() else path)


def _stored(subject: "Subject", there: Path) -> "Subject":
    """A pipeline in a folder, looked at before anything starts. BadInput where it cannot draw."""
    from metainf.engines.diffusers_folder import PipelineFolder, require_pipeline, require_replaceable
    from metainf.hosts.diffusers_load import index_of

    def inside(folder: Path) -> frozenset[str]:
        return frozenset(each.name for each in folder.iterdir())

    index = index_of(there)
    found = PipelineFolder(there.name, index, inside(there), _is_of_diffusers(index.get("_class_name")))
    require_pipeline(found)

    def locate(model: Model, method: Method) -> tuple[Model, Method]:
        student = method.get(DistilledModel)
        if student is not None and Path(student.model).is_dir():
            others = {student.model: inside(Path(student.model))}
            require_replaceable(replace(found, students=others), method)
        else:
            require_replaceable(found, method)
        return model.model_copy(update={"source": str(there)}), method

    return replace(subject, locate=locate)


def _is_of_diffusers(name: object) -> bool:
    """Whether diffusers exports a pipeline of that name, read from its text, as importing it takes seconds.
    True where it is not installed, which is told later."""
    spec = find_spec(ENGINE)
    if spec is None or spec.origin is None:
        return True
    text = Path(spec.origin).read_text(encoding="utf-8")
    return isinstance(name, str) and name.endswith("Pipeline") and f'"{name}"' in text
