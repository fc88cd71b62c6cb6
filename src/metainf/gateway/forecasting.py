"""Asking the predictor what to expect of an endpoint. Milliseconds for each kind, so never while a request
waits."""

import math
from collections.abc import Sequence
from pathlib import Path

from metainf.api.choosing import Question
from metainf.api.predicting import predict
from metainf.domain import Estimate, MetaInfError, Prediction
from metainf.gateway.words import Endpoint, Expected, Kind, Spread

Z90 = 1.6448536269514722


def work_out(kind: Kind, endpoints: Sequence[Endpoint], predictor: Path | None = None) -> dict[str, Expected]:
    """What the predictor expects of each endpoint that it can say anything of."""
    found = {each.name: forecast(kind, each, predictor) for each in endpoints}
    return {name: expected for name, expected in found.items() if not isinstance(expected, str)}


def forecast(kind: Kind, endpoint: Endpoint, predictor: Path | None = None) -> Expected | str:
    """What to expect of one endpoint, or why nothing can be said."""
    if endpoint.hardware is None or endpoint.method is None:
        return "its hardware is not told"
    changes = {
        "input_tokens": {"mean": float(kind.input_tokens)},
        "output_tokens": {"mean": float(kind.output_tokens)},
        "concurrency": float(kind.in_flight),
    }
    question = Question(
        model=endpoint.model,
        hardware=(endpoint.hardware,),
        changes=changes,
        predictor=predictor,
        offline=True,
    )
    try:
        (told,) = predict(question, [(endpoint.hardware, endpoint.method)])
    except MetaInfError as error:
        return str(error)
    if not isinstance(told, Prediction):
        return told.reason
    ttft, tpot = told.metrics.get("ttft_s"), told.metrics.get("tpot_s")
    if ttft is None or tpot is None:
        return "nothing is predicted of its latencies"
    speed = told.metrics.get("output_tokens_per_s")
    return Expected(_spread(ttft), _spread(tpot), None if speed is None else speed.value)


def _spread(estimate: Estimate) -> Spread:
    """A median with its 90 % interval as a lognormal number."""
    least = 1e-9
    low, high = max(estimate.low, least), max(estimate.high, least)
    return Spread(math.log(max(estimate.value, least)), max(0.01, math.log(high / low) / (2 * Z90)))
