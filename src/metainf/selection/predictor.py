"""The seam to whatever predicts: a learner, a formula, a table."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from metainf.domain import Hardware, Method, Model, Prediction, Workload
from metainf.learn.forecast import Forecast

Pair = tuple[Hardware, Method]
Priced = tuple[Hardware, float | None]
MethodsFor = Callable[[Hardware], Sequence[Method]]


class Predictor(Protocol):
    """Predicts every pair in one call, in the order given.

    `Prediction.metrics` maps names of `Metrics` fields to a median with a 90 % interval.
    """

    def predict(self, model: Model, workload: Workload, pairs: Sequence[Pair]) -> list[Prediction]: ...


@runtime_checkable
class Forecaster(Protocol):
    """Predicts every pair in one call as arrays; asked instead of `predict` where a predictor has it."""

    def forecast(self, model: Model, workload: Workload, pairs: Sequence[Pair]) -> Forecast: ...
