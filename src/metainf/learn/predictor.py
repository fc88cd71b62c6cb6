"""The trained predictor: two serving learners, and the seam that selection asks.

One learner is calibrated for models never seen, one for hardware never seen. A question about a known
model on new hardware asks the second, and so on; where both sides are new the errors add up. On a device
that this project's own measuring ran on, those runs correct the answer (`own_runs`).
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.domain import BadInput, Hardware, Method, Model, NotSupported, Prediction, Workload
from metainf.embed.columns import Columns, columns
from metainf.embed.layout import num, whole
from metainf.embed.pairs import Pairs, asked
from metainf.embed.physics import stated_load, terms
from metainf.embed.remembering import coded
from metainf.learn import effects, images, own_history, untried
from metainf.learn.artifact import Artifact
from metainf.learn.energy import FEWEST_ROWS, EnergyLearner, measured
from metainf.learn.forecast import Forecast, predictions
from metainf.learn.image_runs import measured as drawn
from metainf.learn.nearest import nearest
from metainf.learn.own_runs import OwnRuns
from metainf.learn.residual import Runs
from metainf.learn.serving import ServingLearner, Unseen
from metainf.learn.speculation import known
from metainf.learn.table import Table
from metainf.learn.views import load_of

SIDES: dict[Unseen, str] = {"model": "model_group", "hardware": "device"}


def fit(table: Table, tried: Table | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """State and tree models of a predictor trained on a table. Raises BadInput for too little history.

    tried: the runs that tell which techniques were tried with which engines; those of `table` by default.
    """
    state: dict[str, Any] = {"learners": {}}
    trees: dict[str, bytes] = {}
    learners = {side: ServingLearner(side).fit(table) for side in SIDES}
    for side, learner in learners.items():
        state["learners"][side], boosters = learner.dump()
        trees |= {f"{side}.{name}": model for name, model in boosters.items()}
    timed = np.isfinite(table.metrics["tpot_s"]) & np.isfinite(table.metrics["ttft_s"])
    state["known"] = {side: sorted(set(table.keys[key][timed].tolist())) for side, key in SIDES.items()}
    told = timed & np.isfinite(load_of(table)) & (table.columns["speculative"] != "")
    pairs = zip(
        table.columns["engine"][told].tolist(), table.columns["speculative"][told].tolist(), strict=True
    )
    state["speculative"] = sorted({f"{engine} {algorithm}" for engine, algorithm in pairs})
    state["untried"] = untried.fit(table if tried is None else tried)
    if len(measured(table)) >= FEWEST_ROWS:
        joules = EnergyLearner().fit(table)
        joules.calibrate(table, learners["model"].forecast, state["known"]["model"])
        state["energy"] = joules.dump()
    if len(drawn(table)) >= images.FEWEST_ROWS:
        state["images"], boosters = images.DrawingLearner().fit(table).dump()
        trees |= {f"images.{name}": model for name, model in boosters.items()}
    return state, trees


def draws(model: Model) -> bool:
    """Whether a model makes images or video."""
    return model.modality in ("image", "video")


class TrainedPredictor:
    """Predictions of the trained learners, by what a model makes; other work is answered NotSupported.

    An artifact without the energy or image part leaves those answers unknown; one that does not tell what
    was tried takes everything as tried; one without own runs corrects nothing.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.manifest, state = artifact.manifest, artifact.state
        try:
            self.learners = {side: ServingLearner.load(*_part(artifact, side)) for side in SIDES}
            self._one_failure_model = len({repr(x.failures) for x in self.learners.values()}) == 1
            self.speculative = frozenset(state["speculative"])
            self.known = {side: frozenset(state["known"][side]) for side in SIDES}
            own = own_history.load(state["own"]) if "own" in state else None
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"the predictor lacks {error}: train it again with metainf train") from None
        self.untried: dict[str, Any] = state.get("untried", {})
        self._index: dict[str, Any] = state.get("nearest", {"told": []})
        self.energy = EnergyLearner.load(state["energy"]) if "energy" in state else None
        self.images: images.DrawingLearner | None = None
        if "images" in state:
            self.images = images.DrawingLearner.load(state["images"], _trees(artifact, "images"))
        self.own = None if own is None else OwnRuns(_Plain(self), own)

    def require(self, model: Model, workload: Workload) -> None:
        """Raise NotSupported for what cannot be predicted, with the nearest thing that can."""
        if model.modality in ("image", "video"):
            self._require_picture(model)
            return
        if model.modality not in ("text", "multimodal"):
            raise NotSupported(
                f"{model.name} makes {model.modality}: only text, image and video models can be predicted"
            )
        if model.params_b is None or model.num_layers is None or model.hidden_size is None:
            raise NotSupported(
                f"{model.name} lacks params_b, num_layers or hidden_size, so its speed cannot be predicted; "
                "give its config.json, or a model of the same architecture (metainf models list)"
            )
        if workload.input_tokens is None or workload.output_tokens is None:
            raise NotSupported("expected input and output lengths in tokens, found none: give a workload")

    def _require_picture(self, model: Model) -> None:
        if self.images is None:
            raise NotSupported(
                f"{model.name} makes {model.modality}: this predictor learnt text generation "
                "alone; train one with measured image runs (metainf train), or use the shipped one"
            )
        if model.denoiser_params_b is None:
            raise NotSupported(
                f"{model.name} lacks denoiser_params_b, so its speed cannot be predicted; give its diffusers "
                "folder with weights, or a model of the same architecture (metainf models list)"
            )

    def columns(self, model: Model, workload: Workload, pairs: Pairs) -> Columns:
        """Feature columns of the pairs. Raises NotSupported for what cannot be predicted."""
        self.require(model, workload)
        return whole(columns([model], [workload], [pair[0] for pair in pairs], [pair[1] for pair in pairs]))

    def forecast(self, model: Model, workload: Workload, pairs: Pairs) -> Forecast:
        """Forecasts of all pairs by the learners that fit the question; own runs of a device correct them."""
        if self.own is None or not any(hardware.device.name in self.own.engines for hardware, _ in pairs):
            return self.plain(model, workload, pairs)
        return self.own.forecast(model, workload, pairs)

    def ran(self, device: str, engine: str) -> bool:
        """Whether own runs of an engine on a device are known, so that it can be predicted there whatever is
        not known of the device."""
        return self.own is not None and engine in self.own.engines.get(device, ())

    def plain(self, model: Model, workload: Workload, pairs: Pairs) -> Forecast:
        """Forecasts without what own runs say."""
        self.require(model, workload)
        found = whole(asked(model, workload, pairs))
        if self.images is not None and draws(model):
            return self.images.forecast(found)

        def ask(plain: Columns) -> Forecast:
            by_side, (new_model, new_device) = self._sides(plain), self._novel(model, plain)
            return blend(by_side["model"], by_side["hardware"], new_model, new_device)

        joint = effects.forecast(found, ask, self.speculative)
        joint = replace(joint, p_ok=joint.p_ok * untried.p_works(found, self.untried))
        return self.energy.add(found, joint) if self.energy is not None else joint

    def _novel(self, model: Model, found: Columns) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the model, and whether each row's device, are in no run of the fit."""
        devices, place = coded(found["device"])
        unseen = np.array([name not in self.known["hardware"] for name in devices], dtype=np.bool_)
        new_model = catalog.model_group(model.name) not in self.known["model"]
        return np.full(len(place), new_model), unseen[place]

    def _sides(self, found: Columns) -> dict[Unseen, Forecast]:
        """Forecasts of both serving learners, which share runs and failures where these are the same."""
        runs = None if _open_loop(found) else Runs.of(found, terms(found))
        p_ok = (
            self.learners["model"].failures.p_ok(found, runs.t) if runs and self._one_failure_model else None
        )
        return {side: learner.forecast(found, runs, p_ok) for side, learner in self.learners.items()}

    def predicts_speculation(self, engine: str, algorithm: str) -> bool:
        """Whether this speculation was measured with the engine, or has a published acceptance."""
        return f"{engine} {algorithm}" in self.speculative or known(algorithm)

    def engines(self) -> set[str]:
        """Engines of the serving runs that it learnt from."""
        return {pool.partition("|")[0] for learner in self.learners.values() for pool in learner.seen}

    def predict(self, model: Model, workload: Workload, pairs: Pairs) -> list[Prediction]:
        """One Prediction for each pair, without reasons (see `explain`)."""
        return predictions(self.forecast(model, workload, pairs))

    def explain(self, model: Model, workload: Workload, pairs: Pairs) -> list[tuple[str, ...]]:
        """What makes the predicted time of each pair, strongest first."""
        told_of = self.columns(model, workload, pairs)
        rows = [{name: values[i : i + 1] for name, values in told_of.items()} for i in range(len(pairs))]
        if self.images is not None and draws(model):
            return [self.images.explain(row) for row in rows]
        new_model, new_device = self._novel(model, told_of)
        plain = effects.without_guesses(told_of, self.speculative)
        told = {name: learner.explain(plain) for name, learner in self.learners.items()}
        doubts, found = untried.told(told_of, self.untried), []
        for i, row in enumerate(rows):
            side: Unseen = "model" if new_model[i] and not new_device[i] else "hardware"
            effect = effects.told(row, self.learners[side].forecast, self.speculative)
            own = self._own_words(*pairs[i])
            found.append(own + doubts[i] + effect + tuple(_phrase(*reason) for reason in told[side][i]))
        return found

    def _own_words(self, hardware: Hardware, method: Method) -> tuple[str, ...]:
        """That own runs correct a prediction, as its first reason."""
        device = hardware.device.name
        if self.own is None or device not in self.own.engines:
            return ()
        runs = [run for run in self.own.runs if run.device == device and run.method.engine == method.engine]
        return (f"corrected by {len(runs)} results of {method.engine} measured on {device}",)

    def nearest(self, model: Model, workload: Workload, pairs: Pairs) -> list[tuple[str, ...]]:
        """The measured records closest to each pair, in words with their ids; none for pictures."""
        if draws(model):
            return [() for _ in pairs]
        load = workload.concurrency or workload.batch_size
        if load is None:
            load = float(self.forecast(model, workload, pairs[:1]).basis["conc"][0])
        return nearest(self._index, self.columns(model, workload, pairs), float(load))

    def importance(self) -> list[tuple[str, str, float]]:
        """(target, cause, share): what makes the time, and which runs correct it; largest first."""
        found = [
            (f"{target}, {side} never seen", name, share)
            for side, learner in self.learners.items()
            for target, name, share in learner.importance()
        ]
        for kind, shares in self.images.leans.items() if self.images is not None else ():
            found += [(f"time of an image, {kind}", name, share) for name, share in shares.items()]
        place = {target: i for i, target in enumerate(dict.fromkeys(row[0] for row in found))}
        return sorted(found, key=lambda row: (place[row[0]], -row[2]))


class _Plain:
    """A predictor without its own runs, as the base that they correct."""

    def __init__(self, predictor: TrainedPredictor) -> None:
        self.forecast = predictor.plain


def _phrase(cause: str, amount: float) -> str:
    """One reason in words; `amount` in log units."""
    if cause.startswith("learned"):
        return f"{cause}: {np.expm1(amount):+.0%} of the time"
    return f"{cause}: {-np.expm1(-amount):.0%} of the time"


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
    return Forecast(middle, scale, (model.p_ok + hardware.p_ok) / 2, model.basis)


def _open_loop(columns: Columns) -> bool:
    """Whether requests in flight must be found from their rate, which differs between the learners."""
    rated = np.isfinite(num(columns, "request_rate_per_s", np.nan))
    return bool(np.any(rated & ~np.isfinite(stated_load(columns))))


def _part(artifact: Artifact, side: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    return artifact.state["learners"][side], _trees(artifact, side)


def _trees(artifact: Artifact, part: str) -> dict[str, bytes]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): t for name, t in artifact.trees.items() if name.startswith(prefix)}
