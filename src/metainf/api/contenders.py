"""Who takes part in a tuning: the engines that are here, and the methods that may well be best."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metainf.api.measuring import ON_CPU, Measuring, Prepared, prepare_measuring
from metainf.domain import BadInput, Method, MissingExtra, NotSupported

if TYPE_CHECKING:
    from metainf.measure.asking import Load
    from metainf.measure.order import Planned
    from metainf.store import Store

TRIED = ("llama.cpp", "openvino", "vllm")
REWRITTEN_GIB = 2.0
"""Up to this size of its file a model is tried in other number formats, which must be written first."""


@dataclass(frozen=True)
class Tuning:
    """What to tune. Absent parts are as for measuring; without engines all of TRIED that are installed here,
    without methods all sensible recipes.

    `least_quality`: least agreement with the greedy answers of the engine's unaccelerated method, None for
    no floor. `share`: of the candidates, the most that are run.
    """

    model: str | None = None
    workload: str = "short_chat"
    engines: Sequence[str] = ()
    methods: Sequence[str] = ()
    in_flight: int | None = None
    rate_per_s: float | None = None
    requests: int | None = None
    time_limit_s: float = 300.0
    least_quality: float | None = 0.75
    aim: str = "throughput"
    share: float = 1.0
    repeats: int = 3
    seed: int = 0
    device: str | None = None
    predictor: Path | None = None
    offline: bool = False


def parts(
    asked: Tuning, store: "Store | None", campaign: str
) -> tuple[list[Prepared], list[tuple[str, str]]]:
    """The engines' runs laid out; and what is left out. Without stated engines, one that cannot be used here
    is left out; a stated one must be usable."""
    _check(asked)
    prepared, left_out, errors = [], [], []
    for name in asked.engines or TRIED:
        try:
            found = _part(asked, name, store, campaign)
        except (BadInput, NotSupported, MissingExtra) as error:
            if asked.engines:
                raise
            errors.append(error)
            left_out.append((name, str(error)))
            continue
        if found is not None:
            prepared.append(found)
            left_out += [(f"{method} in {name}", why) for method, why in found.layout.refused]
    if prepared:
        return prepared, left_out
    if not errors:
        raise BadInput(f"expected methods of {', '.join(asked.engines or TRIED)}, found none: --engine")
    usable = next((error for error in errors if not isinstance(error, MissingExtra)), None)
    if len(errors) == 1 or usable is None:
        raise errors[0]
    raise NotSupported("; ".join(f"{name}: {why}" for name, why in left_out))


def _check(asked: Tuning) -> None:
    """Raise for a model or a workload that no engine could take."""
    from metainf.api.catalogue import model
    from metainf.measure.asking import traffics_of
    from metainf.measure.weights import SMOLLM2

    traffics_of(asked.workload, _load(asked))
    if asked.device not in (None, "cpu", "gpu"):
        raise BadInput(f"expected cpu or gpu as the device, found {asked.device!r}")
    if asked.least_quality is not None and not 0 <= asked.least_quality <= 1:
        raise BadInput(f"expected a least quality from 0 to 1, found {asked.least_quality:g}")
    if asked.model not in (None, SMOLLM2) and not Path(str(asked.model)).expanduser().exists():
        model(str(asked.model), asked.offline)


def _load(asked: Tuning) -> "Load":
    from metainf.measure.asking import Load

    in_flight = () if asked.in_flight is None else (asked.in_flight,)
    return Load(in_flight, asked.rate_per_s, asked.requests, asked.seed)


def _part(asked: Tuning, name: str, store: "Store | None", campaign: str) -> Prepared | None:
    """The runs of one engine, its unaccelerated method among them; None where no asked method is its own."""
    from metainf import engines
    from metainf.measure.programs import runnable
    from metainf.measure.recipes import PLAIN, sensible
    from metainf.measure.serving import serving_engine

    engine = serving_engine(engines.engine(name))
    runnable(engine.words.program)
    if name not in ON_CPU and not asked.engines and _is_gguf(asked.model):
        raise NotSupported("it takes a model's name or folder, not a GGUF file: name it with --engine to try")
    texts = _own(asked.methods, name) if asked.methods else sensible(engine, _rewritable(asked.model, name))
    if not texts:
        return None
    load = _load(asked)
    return prepare_measuring(
        Measuring(
            model=asked.model, workloads=(asked.workload,), engine=name, methods=[PLAIN, *texts],
            in_flight=load.in_flight, rate_per_s=load.rate_per_s, requests=load.requests, repeats=1,
            seed=asked.seed, device=asked.device, campaign=campaign, offline=asked.offline,
        ),
        store,
    )  # fmt: skip


def _own(texts: Sequence[str], engine: str) -> list[str]:
    """Of stated methods the recipes, and of those given as data the engine's own."""
    return [
        text for text in texts if not text.lstrip().startswith("{") or Method.parse(text).engine == engine
    ]


def _is_gguf(model: str | None) -> bool:
    from metainf.measure.weights import SMOLLM2

    return model is None or model == SMOLLM2 or model.endswith(".gguf")


def _rewritable(model: str | None, engine: str) -> bool:
    """Whether other formats of the weights can be written in reasonable time."""
    from metainf.measure.weights import SMOLLM2

    if engine not in ON_CPU or not _is_gguf(model) or find_spec("gguf") is None:
        return False
    if model is None or model == SMOLLM2:
        return True
    path = Path(model).expanduser()
    return path.is_file() and path.stat().st_size <= REWRITTEN_GIB * 2**30


def entries(
    asked: Tuning, prepared: Sequence[Prepared], left_out: list[tuple[str, str]]
) -> "tuple[list[Planned], list[int]]":
    """The candidates, each method once, with the places of their parts. The unaccelerated method is one where
    it was asked for; what is known to be of no use on this workload is not, unless it was."""
    from metainf.measure.recipes import PLAIN

    found: list[Planned] = []
    part_of: list[int] = []
    seen: set[str] = set()
    for where, each in enumerate(prepared):
        for planned in each.layout.runs:
            method = planned.run.method
            if method.id in seen or (asked.methods and planned.name == PLAIN and PLAIN not in asked.methods):
                continue
            seen.add(method.id)
            useless = None if asked.methods else _useless(planned)
            if useless is not None:
                left_out.append((f"{planned.name} in {method.engine}", useless))
                continue
            found.append(planned)
            part_of.append(where)
    if not found:
        raise NotSupported("no method is left: " + "; ".join(f"{name}: {why}" for name, why in left_out))
    return found, part_of


def _useless(planned: "Planned") -> str | None:
    """Why a method would be of no use here, by the table of conflicts."""
    from metainf import engines
    from metainf.measure.asked import asked_workload

    run = planned.run
    work = asked_workload(run.traffic)
    for finding in engines.check(run.method, run.subject.model, work, run.subject.hardware):
        if finding.effect != "harmful":
            return finding.why
    return None
