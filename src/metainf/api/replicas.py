"""A whole model for a swarm: which engine and method, by MetaInf's own selection for this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from metainf.api.choosing import Question, select
from metainf.api.measuring import Measuring, subject_of
from metainf.domain import (
    BadInput,
    Batching,
    MetaInfError,
    Method,
    MissingExtra,
    NoFeasible,
    NotSupported,
    Objective,
    Precision,
    PrefixCache,
    WeightQuantization,
)

if TYPE_CHECKING:
    from metainf.engines import Launch
    from metainf.engines.serving import ServingEngine
    from metainf.measure.serving import Subject
    from metainf.swarm.host.engine import Start

ENGINES = ("llama.cpp", "openvino", "transformers", "vllm", "sglang", "tensorrt-llm")
"""In this order where nothing is predicted: the first that runs here."""
SPELLED = {"llamacpp": "llama.cpp", "llama_cpp": "llama.cpp", "trtllm": "tensorrt-llm"}
PLACES, INPUT_TOKENS, OUTPUT_TOKENS, TOP = 4, 256, 128, 20
CONTEXT_TOKENS = 4096
MOST_NAME = 64
UNPREDICTED = (NoFeasible, NotSupported)


@dataclass(frozen=True)
class Asked:
    """What a replica is to be. `engine` and `method` (a recipe) are chosen where they are not given. It may
    change to each of the `methods`, of which the first is its own where no `method` is given."""

    model: str | None = None
    engine: str | None = None
    method: str | None = None
    places: int = PLACES
    context_tokens: int = CONTEXT_TOKENS
    offline: bool = False
    methods: tuple[str, ...] = ()


def all_prepared(asked: Asked, say: Callable[[str], None] = lambda _: None) -> "list[Start]":
    """The engine by its method, then by the others that it may change to. Raises as `prepared` does, and
    BadInput for too many."""
    from metainf.swarm.words import MOST_METHODS

    first = prepared(replace(asked, method=asked.method or next(iter(asked.methods), None)), say)
    names = [name for name in dict.fromkeys(asked.methods) if name != first.method]
    if len(names) >= MOST_METHODS:
        raise BadInput(f"expected at most {MOST_METHODS - 1} other methods, found {len(names)}")
    others = [prepared(replace(asked, engine=first.engine.name, method=name), say) for name in names]
    return [first, *others]


def prepared(asked: Asked, say: Callable[[str], None] = lambda _: None) -> "Start":
    """The engine, its method and its command. `say` hears why something was passed over.

    Raises NotSupported where no engine runs the model here, BadInput, UnknownName, MissingExtra.
    """
    wanted = None if asked.engine is None else SPELLED.get(asked.engine.lower(), asked.engine.lower())
    names = ENGINES if wanted is None else (wanted,)
    failed: list[str] = []
    here: dict[str, tuple[ServingEngine, Subject]] = {}
    for name in names:
        try:
            here[name] = _there(asked, name)
        except (MetaInfError, OSError) as error:
            if wanted is not None:
                raise
            failed.append(f"{name}: {error}")
    if not here:
        raise NotSupported(
            f"expected an engine that runs the model here, found none ({'; '.join(failed)[:600]})"
        )
    methods, how = _methods(asked, here, say)
    for method in methods:
        engine, subject = here[method.engine]
        try:
            return _start(asked, engine, subject, method, how)
        except (NotSupported, MissingExtra, BadInput) as error:
            say(f"{method.engine}: passed over: {error}")
    raise NotSupported(
        "no method of the engines that are here could be started; what was said before tells why"
    )


def _there(asked: Asked, name: str) -> "tuple[ServingEngine, Subject]":
    """An engine whose program is on this machine, and the model with its weights. Raises where not."""
    from metainf import engines
    from metainf.measure.programs import runnable
    from metainf.measure.recipes import recipe
    from metainf.measure.serving import serving_engine

    engine = serving_engine(engines.engine(name))
    subject = subject_of(Measuring(model=asked.model, engine=name, offline=asked.offline), None)
    words = runnable(_launch(asked, engine, subject, recipe(f"continuous-{asked.places}", engine)).argv)
    module = words[2].partition(".")[0] if words[1:2] == ("-m",) else None
    if module is not None and find_spec(module) is None:
        raise NotSupported(f"expected the library {module} on this machine, found none: pip install {module}")
    return engine, subject


def _methods(
    asked: Asked, here: "dict[str, tuple[ServingEngine, Subject]]", say: Callable[[str], None]
) -> tuple[Sequence[Method], str]:
    """Methods from the best on, and how they were found."""
    from metainf.measure.recipes import recipe

    first, (engine, subject) = next(iter(here.items()))
    plain = [recipe(f"continuous-{asked.places}", each) for each, _ in here.values()]
    if asked.method is not None:
        return [recipe(asked.method, engine)], f"{first} by the method {asked.method}, as asked"
    load = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "concurrency": asked.places}
    where = subject.hardware
    why = ""
    for names in (tuple(here), *((name,) for name in here)):
        question = Question(
            here[names[0]][1].model, (where,), changes=load, objective=Objective(aim="throughput"),
            engines=names, top=TOP, explain=0, offline=asked.offline,
        )  # fmt: skip
        try:
            ranked = select(question).ranked
        except UNPREDICTED as error:
            why = why or str(error)
            continue
        found = [_slotted(each.method, asked.places) for each in ranked]
        return [*found, *plain], f"{found[0].engine}, first of {len(found)} by MetaInf's selection"
    told = f"nothing is predicted for this model and machine ({why}): "
    return plain, f"{told}{first} with continuous batching, its own defaults otherwise"


def _slotted(method: Method, places: int) -> Method:
    """With continuous batching of as many texts as are written at once."""
    kept = [each for each in method.techniques if not isinstance(each, Batching)]
    batching = Batching(mode="continuous", max_sequences=places)
    return method.model_copy(update={"techniques": (batching, *kept)})


def _launch(asked: Asked, engine: "ServingEngine", subject: "Subject", method: Method) -> "Launch":
    from metainf.domain import Lengths, Workload

    context = context_of(asked, subject)
    half = context // 2
    model, located = subject.locate(subject.model, method)
    sides = Lengths(mean=half, max=half)
    work = Workload(input_tokens=sides, output_tokens=sides, concurrency=asked.places)
    return engine.launch(model, located, subject.hardware, work)


def context_of(asked: Asked, subject: "Subject") -> int:
    """Tokens of the longest text: an even number, at most what the model knows."""
    return min(asked.context_tokens, subject.model.max_position_embeddings or asked.context_tokens) // 2 * 2


def _start(asked: Asked, engine: "ServingEngine", subject: "Subject", method: Method, how: str) -> "Start":
    from metainf.measure.recipes import recipe_name
    from metainf.swarm.host.engine import Start
    from metainf.swarm.host.measuring import hardware_name
    from metainf.swarm.words import Profile

    launch = _launch(asked, engine, subject, method)
    subject.write(subject.model, method, None)
    precision, weights = method.get(Precision), method.get(WeightQuantization)
    stored = subject.model.quantization or "none"
    dtype = (precision.dtype if precision is not None else subject.model.dtype) or "auto"
    prefixes, context = method.get(PrefixCache), context_of(asked, subject)
    keeps = prefixes is not None and prefixes.enabled
    quantization = (weights.format if weights is not None else stored)[:32]
    return Start(
        engine=engine,
        launch=launch,
        profile=Profile(dtype=dtype[:32], quantization=quantization, codec="text", engine=engine.name),
        hardware=hardware_name([subject.hardware])
        if subject.hardware.device.kind == "cpu"
        else _named(subject),
        places=asked.places,
        context_tokens=context,
        method=(asked.method or recipe_name(method, engine))[:MOST_NAME],
        prefix_tokens=asked.places * context if keeps else 0,
        how=f"{how}: {' '.join(sorted(each.kind for each in method.techniques)) or 'no techniques'}",
    )


def _named(subject: "Subject") -> str:
    return f"{subject.hardware.count or 1}x {subject.hardware.device.name}"[:128]
