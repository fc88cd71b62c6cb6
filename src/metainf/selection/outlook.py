"""What a predictor says of many candidates: distributions as arrays, a Prediction only where one is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from metainf.domain import BadInput, Model, Prediction, Workload
from metainf.learn.forecast import Forecast, predictions
from metainf.selection.predictor import Forecaster, Pair, Predictor
from metainf.selection.spread import Floats, Spread


@dataclass(frozen=True)
class Outlook:
    """`p_ok` of every candidate, the distribution of any metric, and some as Predictions."""

    p_ok: Floats
    _spread: Callable[[str], Spread]
    predictions: Callable[[Sequence[int]], list[Prediction]]
    _read: dict[str, Spread] = field(default_factory=dict)

    def metric(self, name: str) -> Spread:
        """The distribution of one metric, read once; NaN where it is not predicted."""
        if name not in self._read:
            self._read[name] = self._spread(name)
        return self._read[name]

    @classmethod
    def of_predictions(cls, found: Sequence[Prediction]) -> "Outlook":
        """From one Prediction for each candidate."""
        p_ok = np.array([prediction.p_ok for prediction in found], dtype=np.float64)
        return cls(p_ok, lambda name: Spread.of(found, name), lambda rows: [found[i] for i in rows])

    @classmethod
    def of_forecast(cls, found: Forecast) -> "Outlook":
        """From arrays, without one object for each candidate."""
        unknown = np.full(len(found.p_ok), np.nan)

        def spread(name: str) -> Spread:
            if name not in found.log_median:
                return Spread.from_logs(unknown, unknown, unknown)
            return Spread.from_logs(*found.log_bounds(name))

        return cls(np.clip(found.p_ok, 0, 1), spread, lambda rows: predictions(found, rows))


def ask(
    predictor: Predictor | Forecaster, model: Model, workload: Workload, pairs: Sequence[Pair]
) -> Outlook:
    """What the predictor says of the pairs; arrays where it offers them.

    Raises BadInput where it answers another number of pairs.
    """
    if isinstance(predictor, Forecaster):
        outlook = Outlook.of_forecast(predictor.forecast(model, workload, pairs))
    else:
        outlook = Outlook.of_predictions(predictor.predict(model, workload, pairs))
    if len(outlook.p_ok) != len(pairs):
        raise BadInput(f"expected {len(pairs)} predictions, found {len(outlook.p_ok)}")
    return outlook
