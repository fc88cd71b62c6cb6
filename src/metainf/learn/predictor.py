"""The trained predictor: two serving learners, and the seam that selection asks.

One learner is calibrated for models never seen, one for hardware never seen. A question about a known
model on new hardware asks the second, and so on; where both sides are new the errors add up.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.domain import BadInput, Estimate, Hardware, Method, Model, NotSupported, Prediction, Workload
from metainf.embed.columns import Columns, columns
from metainf.embed.layout import whole
from metainf.learn.artifact import Artifact
from metainf.learn.forecast import Forecast
from metainf.learn.nearest import nearest
from metainf.learn.serving import ServingLearner, Unseen
from metainf.learn.table import Table
from metainf.learn.views import load_of

Pairs = Sequence[tuple[Hardware, Method]]
SIDES: dict[Unseen, str] = {"model": "model_group", "hardware": "device"}


def fit(table: Table) -> tuple[dict[str, Any], dict[str, bytes]]:
    """State and tree models of a predictor trained on a table. Raises BadInput for too little history."""
    state: dict[str, Any] = {"learners": {}}
    trees: dict[str, bytes] = {}
    for side in SIDES:
        learner_state, boosters = ServingLearner(side).fit(table).dump()
        state["learners"][side] = learner_state
        trees |= {f"{side}.{name}": model for name, model in boosters.items()}
    timed = np.isfinite(table.metrics["tpot_s"]) & np.isfinite(table.metrics["ttft_s"])
    state["known"] = {side: sorted(set(table.keys[key][timed].tolist())) for side, key in SIDES.items()}
    told = timed & np.isfinite(load_of(table)) & (table.columns["speculative"] != "")
    pairs = zip(
        table.columns["engine"][told].tolist(), table.columns["speculative"][told].tolist(), strict=True
    )
    state["speculative"] = sorted({f"{engine} {algorithm}" for engine, algorithm in pairs})
    return state, trees


class TrainedPredictor:
    """Predictions of the trained learners. Text generation only; other work is answered NotSupported."""

    def __init__(self, artifact: Artifact) -> None:
        self.manifest, state = artifact.manifest, artifact.state
        try:
            self.learners = {side: ServingLearner.load(*_part(artifact, side)) for side in SIDES}
            self.speculative = frozenset(state["speculative"])
            self.known = {side: frozenset(state["known"][side]) for side in SIDES}
        except (KeyError, TypeError) as error:
            raise BadInput(f"the predictor lacks {error}: train it again with metainf train") from None
        self._index: dict[str, Any] = state.get("nearest", {"told": []})

    @staticmethod
    def require(model: Model, workload: Workload) -> None:
        """Raise NotSupported for what cannot be predicted, with the nearest thing that can."""
        if model.modality not in ("text", "multimodal"):
            raise NotSupported(
                f"{model.name} makes {model.modality}: only text generation can be predicted so far; "
                "the nearest thing is `metainf records` with measured runs of image models"
            )
        if model.params_b is None or model.num_layers is None or model.hidden_size is None:
            raise NotSupported(
                f"{model.name} lacks params_b, num_layers or hidden_size, so its speed cannot be predicted; "
                "give its config.json, or a model of the same architecture (metainf models list)"
            )
        if workload.input_tokens is None or workload.output_tokens is None:
            raise NotSupported("expected input and output lengths in tokens, found none: give a workload")

    def columns(self, model: Model, workload: Workload, pairs: Pairs) -> Columns:
        """Feature columns of the pairs. Raises NotSupported for what cannot be predicted."""
        self.require(model, workload)
        return whole(columns([model], [workload], [pair[0] for pair in pairs], [pair[1] for pair in pairs]))

    def forecast(self, model: Model, workload: Workload, pairs: Pairs) -> Forecast:
        """Forecasts of all pairs by the learners that fit the question."""
        found = self.columns(model, workload, pairs)
        new_model = np.full(len(pairs), catalog.model_group(model.name) not in self.known["model"])
        devices, place = np.unique(found["device"], return_inverse=True)
        new_device = np.array([name not in self.known["hardware"] for name in devices.tolist()])[place]
        by_side = {side: learner.forecast(found) for side, learner in self.learners.items()}
        return blend(by_side["model"], by_side["hardware"], new_model, new_device)

    def predict(self, model: Model, workload: Workload, pairs: Pairs) -> list[Prediction]:
        """One Prediction for each pair, without reasons (see `explain`)."""
        return predictions(self.forecast(model, workload, pairs))

    def explain(self, model: Model, workload: Workload, pair: tuple[Hardware, Method]) -> tuple[str, ...]:
        """What makes the predicted time of one pair, strongest first."""
        told = self.learners["hardware"].explain(self.columns(model, workload, [pair]))[0]
        return tuple(
            f"{phrase}: {np.expm1(amount):+.0%} of the time"
            if phrase.startswith("learned")
            else f"{phrase}: {-np.expm1(-amount):.0%} of the time"
            for phrase, amount in told
        )

    def nearest(self, model: Model, workload: Workload, pair: tuple[Hardware, Method]) -> tuple[str, ...]:
        """The measured records closest to one pair, in words with their ids."""
        load = workload.concurrency or workload.batch_size or 1.0
        return nearest(self._index, self.columns(model, workload, [pair]), float(load))

    def importance(self) -> list[tuple[str, str, float]]:
        """(target, cause, share): what makes the time, and which runs correct it; largest first."""
        return [
            (f"{target}, {side} never seen", name, share)
            for side, learner in self.learners.items()
            for target, name, share in learner.importance()
        ]


def blend(
    model: Forecast, hardware: Forecast, new_model: NDArray[np.bool_], new_device: NDArray[np.bool_]
) -> Forecast:
    """The model-side learner where only the model is new, the hardware-side one where the model is known
    (it alone learns from runs of the model), their mean with added errors where both are new. Where both
    are known, the smaller error."""
    middle, scale = {}, {}
    for metric in model.log_median:
        m, h = model.log_median[metric], hardware.log_median[metric]
        s, t = model.log_scale[metric], hardware.log_scale[metric]
        middle[metric] = np.where(new_model & ~new_device, m, np.where(new_model, (m + h) / 2, h))
        both = np.where(new_model, np.hypot(s, t), np.minimum(s, t))
        scale[metric] = np.where(new_model & ~new_device, s, np.where(new_device & ~new_model, t, both))
    return Forecast(middle, scale, (model.p_ok + hardware.p_ok) / 2)


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


def _part(artifact: Artifact, side: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    prefix = f"{side}."
    trees = {name.removeprefix(prefix): t for name, t in artifact.trees.items() if name.startswith(prefix)}
    return artifact.state["learners"][side], trees
