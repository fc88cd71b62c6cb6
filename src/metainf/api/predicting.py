"""Predict and explain named pairs of hardware and method, without limits and without a ranking."""

from collections.abc import Sequence

from metainf.api.checking import checker
from metainf.api.choosing import Question, load_predictor, parts, require_history
from metainf.domain import Excluded, Hardware, Method, Prediction


def predict(
    question: Question, pairs: Sequence[tuple[Hardware, Method]], explain: bool = False
) -> tuple[Prediction | Excluded, ...]:
    """What is expected of each pair, in their order; Excluded, with the reason, for one that cannot run.

    explain: with reasons, strongest first, and the nearest measured records. Raises UnknownName, BadInput
    and NotSupported as `select` does.
    """
    subject, work = parts(question)
    predictor = load_predictor(question.predictor)
    predictor.require(subject, work)
    require_history(sorted({method.engine for _, method in pairs}), subject, predictor)
    check = checker(subject, work, predictor)
    found: list[Prediction | Excluded | None] = [check(hardware, method) for hardware, method in pairs]
    open_ = [place for place, out in enumerate(found) if out is None]
    asked = [pairs[place] for place in open_]
    told = predictor.predict(subject, work, asked) if asked else []
    if explain and asked:
        reasons = predictor.explain(subject, work, asked)
        nearest = predictor.nearest(subject, work, asked)
        told = [
            one.model_copy(update={"reasons": why, "nearest": near})
            for one, why, near in zip(told, reasons, nearest, strict=True)
        ]
    for place, prediction in zip(open_, told, strict=True):
        found[place] = prediction
    return tuple(each for each in found if each is not None)
