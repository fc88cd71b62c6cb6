"""From an artifact to predictions of (hardware, method) pairs: the seam that selection asks."""

from collections.abc import Sequence

import numpy as np

from metainf.domain import Estimate, Hardware, Method, Model, NotSupported, Prediction, Workload
from metainf.embed.columns import Columns, columns
from metainf.learn.artifact import Artifact
from metainf.learn.forecast import Forecast
from metainf.learn.nearest import nearest
from metainf.learn.serving import ServingLearner


class TrainedPredictor:
    """Predictions of the trained learner. Text generation only; other work is answered NotSupported."""

    def __init__(self, artifact: Artifact) -> None:
        self.manifest = artifact.manifest
        state = dict(artifact.state)
        self._index = state.pop("nearest", {"told": []})
        self.learner = ServingLearner.load(state, artifact.trees)

    def columns(self, model: Model, workload: Workload, pairs: Sequence[tuple[Hardware, Method]]) -> Columns:
        """Feature columns of the pairs. Raises NotSupported for what cannot be predicted."""
        if model.modality not in ("text", "multimodal"):
            raise NotSupported(
                f"{model.name} makes {model.modality}: only text generation can be predicted so far; "
                "the nearest thing is `metainf records` with measured runs of image models"
            )
        if workload.input_tokens is None or workload.output_tokens is None:
            raise NotSupported("expected input and output lengths in tokens, found none: give a workload")
        return columns([model], [workload], [pair[0] for pair in pairs], [pair[1] for pair in pairs])

    def predict(
        self, model: Model, workload: Workload, pairs: Sequence[tuple[Hardware, Method]]
    ) -> list[Prediction]:
        """One Prediction for each pair, without reasons (see `explain`)."""
        forecast = self.learner.forecast(self.columns(model, workload, pairs))
        return predictions(forecast)

    def explain(self, model: Model, workload: Workload, pair: tuple[Hardware, Method]) -> tuple[str, ...]:
        """What speaks for the predicted speed of one pair, strongest first."""
        told = self.learner.explain(self.columns(model, workload, [pair]))[0]
        return tuple(
            f"{phrase} ({np.expm1(share):+.0%})" if abs(share) < 5 else phrase for phrase, share in told
        )

    def nearest(self, model: Model, workload: Workload, pair: tuple[Hardware, Method]) -> tuple[str, ...]:
        """The measured records closest to one pair, in words with their ids."""
        load = workload.concurrency or workload.batch_size or 1.0
        return nearest(self._index, self.columns(model, workload, [pair]), float(load))


def predictions(forecast: Forecast) -> list[Prediction]:
    """Prediction values of a forecast. Built without validation: the numbers are ours and finite."""
    bounds = {metric: np.stack(forecast.bounds(metric), axis=1).tolist() for metric in forecast.log_median}
    found = []
    for row, chance in enumerate(np.clip(forecast.p_ok, 0, 1).tolist()):
        metrics = {}
        for metric, values in bounds.items():
            value, low, high = values[row]
            if value == value:
                metrics[metric] = Estimate.model_construct(value=value, low=low, high=high)
        found.append(Prediction.model_construct(p_ok=chance, metrics=metrics, reasons=(), nearest=()))
    return found
