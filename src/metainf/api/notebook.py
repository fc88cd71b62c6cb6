"""The main verbs as a person calls them in Python: `import metainf; metainf.select(...)`.

Answers show themselves as tables in a notebook; `rows()` gives them flat, `to_pandas()` as a data frame.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from metainf.api.catalogue import hardware_of
from metainf.api.choosing import ENGINES, Question
from metainf.api.choosing import select as select_answer
from metainf.api.choosing import size as size_answer
from metainf.api.history import store as open_store
from metainf.api.learning import evaluate as judge
from metainf.api.learning import evaluation_plan
from metainf.api.measured import Measurement
from metainf.api.measuring import Measuring, prepare_measuring
from metainf.api.measuring import measure as make_runs
from metainf.api.predicting import predict as predict_pairs
from metainf.domain import (
    BadInput,
    Excluded,
    Hardware,
    Method,
    Model,
    NotSupported,
    Objective,
    Prediction,
    PrivacyAsked,
    Selection,
    UnknownName,
    Workload,
)
from metainf.domain.shown import data_frame, method_words, rows_html
from metainf.selection import Sized

Machines: TypeAlias = str | Hardware | Sequence[str | Hardware]
OPTIONS = ("engines", "top", "predictor", "offline", "explain", "allow")
"""What a question takes beside limits and the workload."""
PRIVACY = tuple(PrivacyAsked.model_fields)
"""What `select` takes beside these: a class of privacy and what belongs to it."""


class Evaluated(dict[str, Any]):
    """An evaluation, as `metainf.api.evaluate` gives it."""

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each chooser in each view."""
        about = ("source", "view", "by", "cells")
        return [
            {name: view[name] for name in about} | dict(line)
            for view in self["views"]
            for line in view["choosers"]
        ]

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame. Raises MissingExtra where pandas is not installed."""
        return data_frame(self.rows())

    def _repr_html_(self) -> str:
        shown = ("source", "view", "by", "cells", "name", "regret", "regret_low", "regret_high")
        return rows_html([{name: row.get(name) for name in shown} for row in self.rows()], "evaluation")


class Sizing(tuple[Sized, ...]):
    """Deployments that serve a rate, the cheapest first, as `metainf.api.size` gives them."""

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each deployment: what it is, then the fields of `Sized` that are numbers."""
        return [
            {
                "device": one.hardware.device.name,
                "count": one.hardware.count,
                "engine": one.method.engine,
                "method": method_words(one.method),
            }
            | {name: value for name, value in one if name not in ("hardware", "method")}
            for one in self
        ]

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame. Raises MissingExtra where pandas is not installed."""
        return data_frame(self.rows())

    def _repr_html_(self) -> str:
        return rows_html(self.rows(), "sizing")


def select(
    model: str | Model,
    hardware: Machines,
    workload: str | None = None,
    **wanted: Any,
) -> Selection:
    """Rank every method on every hardware.

    hardware: as people write it ("1-4xL4", "H100@2.5"), one or several. wanted: fields of Objective (aim,
    max_ttft_s ...), of Workload (input_tokens, concurrency ...), the rest of OPTIONS, and PRIVACY (privacy,
    trust, keep, client_hardware ...).

        metainf.select("Qwen/Qwen3-32B", ["2xL40S", "H100"], "azure-chat", concurrency=32, max_ttft_s=1.0)

    Raises NoFeasible, UnknownName, NotSupported, BadInput.
    """
    private = {name: value for name, value in wanted.items() if name in PRIVACY}
    others = {name: value for name, value in wanted.items() if name not in PRIVACY}
    question = _question(model, hardware, workload, others)
    return select_answer(replace(question, privacy=PrivacyAsked.stating(private)) if private else question)


def size(
    model: str | Model,
    hardware: Machines,
    rate_per_s: float,
    workload: str | None = None,
    percentile: str | None = None,
    **wanted: Any,
) -> Sizing:
    """The cheapest deployments that serve a request rate. `wanted` as for `select`, 32 in flight each."""
    question = _question(model, hardware, workload, {"concurrency": 32} | wanted)
    return Sizing(size_answer(question, rate_per_s, percentile))


def predict(
    model: str | Model,
    hardware: str | Hardware,
    method: str | Method,
    workload: str | None = None,
    explain: bool = True,
    **wanted: Any,
) -> Prediction:
    """What is expected of one method on one machine. `method` is a Method, or the name of an engine for its
    plain setting. NotSupported, with the reason, for a pair that cannot run."""
    found = hardware_of([hardware])
    if len(found) != 1:
        raise BadInput(f"expected one piece of hardware such as 2xL4, found {len(found)} in {hardware!r}")
    one = Method(engine=method) if isinstance(method, str) else method
    question = _question(model, [found[0][0]], workload, wanted)
    (answer,) = predict_pairs(question, [(found[0][0], one)], explain)
    if isinstance(answer, Excluded):
        raise NotSupported(f"{answer.limit}: {answer.reason}")
    return answer


def measure(store: str | None = None, **wanted: Any) -> Measurement:
    """Run methods in a real engine on this machine and keep the records. `wanted`: fields of
    `metainf.api.Measuring` (model, workloads, engine, methods, in_flight, repeats ...)."""
    _known(wanted, {field.name for field in fields(Measuring)})
    opened = open_store(store)
    return make_runs(prepare_measuring(Measuring(**wanted), opened), opened)


def evaluate(store: str | None = None, **plan: Any) -> Evaluated:
    """Judge every learner on what it has never seen. `plan`: sources, by, choosers, quality, jobs ..."""
    return Evaluated(judge(open_store(store, create=False), evaluation_plan(**plan)))


def _question(
    model: str | Model,
    hardware: Machines,
    workload: str | None,
    wanted: dict[str, Any],
) -> Question:
    aims, work = set(Objective.model_fields), set(Workload.model_fields)
    _known(wanted, {*aims, *work, *OPTIONS})
    options = {name: wanted[name] for name in OPTIONS if name in wanted}
    if isinstance(options.get("predictor"), str):
        options["predictor"] = Path(options["predictor"])
    return Question(
        model=model,
        hardware=[hardware] if isinstance(hardware, str | Hardware) else list(hardware),
        workload=workload,
        changes={name: value for name, value in wanted.items() if name in work},
        objective=Objective.of({name: value for name, value in wanted.items() if name in aims}),
        **({"engines": ENGINES} | options),
    )


def _known(wanted: dict[str, Any], known: set[str]) -> None:
    strange = next((name for name in wanted if name not in known), None)
    if strange is not None:
        raise UnknownName("argument", strange, known)
