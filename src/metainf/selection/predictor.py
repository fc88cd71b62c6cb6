"""The seam to whatever predicts: a learner, a formula, a table."""

from collections.abc import Callable, Sequence
from typing import Protocol

from metainf.domain import Hardware, Method, Model, Prediction, Workload

Pair = tuple[Hardware, Method]
Priced = tuple[Hardware, float | None]
MethodsFor = Callable[[Hardware], Sequence[Method]]


class Predictor(Protocol):
    """Predicts every pair in one call, in the order given.

    `Prediction.metrics` maps names of `Metrics` fields to a median with a 90 % interval.
    """

    def predict(self, model: Model, workload: Workload, pairs: Sequence[Pair]) -> list[Prediction]: ...
