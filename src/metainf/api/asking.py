"""Questions as they travel: what a service reads and a client writes, made of the domain's words.

A name in such a question is a name and never a file of the machine that answers; what the catalogue does not
know is given as what it is (a Model, a Hardware, the fields of a Workload).
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field, PositiveFloat

from metainf import catalog
from metainf.api.choosing import ENGINES, Question, select, size
from metainf.api.predicting import predict
from metainf.domain import (
    BadInput,
    Excluded,
    Frozen,
    Hardware,
    Method,
    Model,
    Objective,
    Prediction,
    PrivacyAsked,
    Selection,
    Workload,
)

if TYPE_CHECKING:
    from metainf.selection import Sized

MOST_ANSWERS = 200
MOST_PAIRS = 64
MOST_MACHINES = 256
LARGEST = 1e9
"""No fact of a model, workload or device that is given in place of a name counts more than this."""
F = TypeVar("F", bound=Frozen)
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Asked(Frozen):
    """A decision to make. `hardware` by name as people write it ("1-4xL4", "H100@2.5") or as what it is;
    `changes` replace fields of the named workload, or are a workload of their own.

    Of the `top` answers the first `explain` get reasons and nearest records, all of them where it is absent.
    `allow` says what may stand in for a model that draws: distilled models and autoencoders. `privacy` is a
    class that the answers of `select` keep to.
    """

    model: Name | Model
    hardware: Annotated[tuple[Name | Hardware, ...], Field(min_length=1, max_length=64)]
    workload: Name | None = None
    changes: Workload = Workload()
    objective: Objective = Objective()
    engines: Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)] = ENGINES
    top: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] = 10
    explain: Annotated[int, Field(ge=0, le=MOST_ANSWERS)] | None = None
    allow: tuple[Literal["distilled"], ...] = ()
    privacy: PrivacyAsked | None = None


class SizeAsked(Frozen):
    """How many machines serve a request rate. `changes.concurrency` is that of one replica."""

    question: Asked
    rate_per_s: PositiveFloat
    percentile: Literal["p50", "p90", "p95", "p99"] | None = None


class Pair(Frozen):
    """One machine with one method."""

    hardware: Name | Hardware
    method: Method


class PredictAsked(Frozen):
    """What to predict: some pairs for a model and a workload, without any limits."""

    model: Name | Model
    pairs: Annotated[tuple[Pair, ...], Field(min_length=1, max_length=MOST_PAIRS)]
    workload: Name | None = None
    changes: Workload = Workload()


def answer_select(asked: Asked, offline: bool = True) -> Selection:
    """The ranking of what was asked. Raises as `select` does."""
    with catalog.names_only():
        return select(question_of(asked, offline))


def answer_size(asked: SizeAsked, offline: bool = True) -> "tuple[Sized, ...]":
    """The deployments that serve the rate. Raises as `size` does."""
    with catalog.names_only():
        return size(question_of(asked.question, offline), asked.rate_per_s, asked.percentile)


def answer_predict(
    asked: PredictAsked, explain: bool = False, offline: bool = True
) -> tuple[Prediction | Excluded, ...]:
    """What is expected of each pair, with reasons where `explain`. Raises as `predict` does."""
    with catalog.names_only():
        pairs = [(_one(each.hardware), each.method) for each in asked.pairs]
        question = Question(
            model=_subject(asked.model),
            hardware=tuple(hardware for hardware, _ in pairs),
            workload=asked.workload,
            changes=_changes(asked.changes),
            offline=offline,
        )
        return predict(question, pairs, explain)


def question_of(asked: Asked, offline: bool) -> Question:
    """The question behind what was asked."""
    counts = [len(catalog.parse_hardware(each)) if isinstance(each, str) else 1 for each in asked.hardware]
    if sum(counts) > MOST_MACHINES:
        raise BadInput(
            f"expected at most {MOST_MACHINES} pieces of hardware in a question, found {sum(counts)}"
        )
    return Question(
        model=_subject(asked.model),
        hardware=tuple(each if isinstance(each, str) else bounded(each) for each in asked.hardware),
        workload=asked.workload,
        changes=_changes(asked.changes),
        objective=asked.objective,
        engines=asked.engines,
        top=asked.top,
        explain=asked.explain,
        offline=offline,
        allow=asked.allow,
        privacy=None if asked.privacy is None else bounded(asked.privacy),
    )


def bounded(value: F) -> F:
    """The value itself. BadInput where a fact of it is no size that anything has."""
    wrong = _beyond(value.model_dump(mode="json", exclude_none=True))
    if wrong is not None:
        raise BadInput(
            f"{type(value).__name__}: {wrong[0]}: expected at most {LARGEST:,.0f}, found {wrong[1]}"
        )
    return value


def _subject(given: str | Model) -> str | Model:
    return bounded(given) if isinstance(given, Model) else given


def _changes(work: Workload) -> dict[str, Any]:
    return bounded(work).model_dump(mode="json", exclude_none=True)


def _beyond(value: Any, where: str = "") -> tuple[str, str] | None:
    if isinstance(value, dict | list):
        parts: list[tuple[Any, Any]] = list(value.items() if isinstance(value, dict) else enumerate(value))
        found = (_beyond(item, f"{where}.{key}" if where else str(key)) for key, item in parts)
        return next((each for each in found if each is not None), None)
    large = isinstance(value, int | float) and not -LARGEST <= value <= LARGEST
    return (where, f"{value!r:.40}") if large else None


def _one(given: str | Hardware) -> Hardware:
    if isinstance(given, Hardware):
        return bounded(given)
    found = catalog.parse_hardware(given)
    if len(found) != 1:
        raise BadInput(
            f"expected one piece of hardware in a pair, such as 2xL4, found {len(found)} in {given!r}"
        )
    return found[0]
