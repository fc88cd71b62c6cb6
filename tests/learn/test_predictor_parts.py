"""The trained predictor dispatches by what a model makes, and lives without the parts it was not given."""

import numpy as np
import pytest
from learn_tables import many
from test_images import history as image_history

from metainf import catalog
from metainf.domain import (
    ArtifactError,
    Hardware,
    Lengths,
    Method,
    NotSupported,
    Precision,
    Speculative,
    Workload,
)
from metainf.learn import artifact, images
from metainf.learn.artifact import Artifact
from metainf.learn.energy import NAMES, START
from metainf.learn.predictor import TrainedPredictor

H100 = Hardware(device=catalog.find_device("h100-sxm"), count=1)
CHAT = Workload(input_tokens=Lengths(mean=512), output_tokens=Lengths(mean=128), concurrency=8.0)
LLAMA, SDXL = catalog.find_model("Llama-3.1-8B-Instruct"), catalog.find_model("sdxl")
JOULES = {
    "kind": "energy", "theta": dict(zip(NAMES, START.tolist(), strict=True)), "stretch": 1.5,
    "quantile": {"model": 0.3, "hardware": 0.5}, "known": {"model": [], "hardware": ["h100-sxm"]},
}  # fmt: skip


def parts(**state: object) -> Artifact:
    """The shipped serving learners with just these parts beside them."""
    shipped = artifact.read()
    kept = {key: value for key, value in shipped.state.items() if key not in ("energy", "images")}
    return Artifact(shipped.manifest, kept | state, dict(shipped.trees))


def test_an_artifact_without_energy_says_nothing_of_it() -> None:
    said = TrainedPredictor(parts()).predict(LLAMA, CHAT, [(H100, Method(engine="vllm"))])[0]
    assert "tpot_s" in said.metrics and "energy_j_per_token" not in said.metrics


def test_energy_and_power_stand_beside_the_times() -> None:
    said = TrainedPredictor(parts(energy=JOULES)).predict(LLAMA, CHAT, [(H100, Method(engine="vllm"))])[0]
    joules, power, rate = (said.metrics[n] for n in ("energy_j_per_token", "power_w", "output_tokens_per_s"))
    assert joules.low < joules.value < joules.high
    assert joules.value * rate.value == pytest.approx(power.value)
    assert 0 < power.value <= 700


def test_pictures_need_the_image_part() -> None:
    with pytest.raises(NotSupported, match="text generation alone"):
        TrainedPredictor(parts()).predict(SDXL, Workload(), [(H100, Method(engine="diffusers"))])


def test_pictures_are_answered_by_the_image_part() -> None:
    state, boosters = images.DrawingLearner().fit(image_history()).dump()
    base = parts(images=state)
    whole = Artifact(base.manifest, base.state, base.trees | {f"images.{n}": b for n, b in boosters.items()})
    predictor = TrainedPredictor(whole)
    method = Method(engine="diffusers", techniques=(Precision(dtype="bf16"),))
    said = predictor.predict(SDXL, Workload(batch_size=2), [(H100, method)])[0]
    assert said.metrics["images_per_s"].value * said.metrics["e2e_s"].value == pytest.approx(2)
    assert "tpot_s" not in said.metrics and predictor.nearest(SDXL, Workload(), [(H100, method)]) == [()]
    nameless = SDXL.model_copy(update={"denoiser_params_b": None})
    with pytest.raises(NotSupported, match="denoiser_params_b"):
        predictor.predict(nameless, Workload(), [(H100, method)])


def test_a_broken_part_is_refused() -> None:
    with pytest.raises(ArtifactError, match="energy"):
        TrainedPredictor(parts(energy={key: v for key, v in JOULES.items() if key != "theta"}))


def test_published_acceptance_answers_for_unmeasured_speculation() -> None:
    predictor = TrainedPredictor(parts())
    assert predictor.predicts_speculation("vllm", "eagle3")
    assert not predictor.predicts_speculation("vllm", "clairvoyance")
    draft = Method(engine="vllm", techniques=(Speculative(algorithm="eagle3", tokens=3),))
    said = predictor.predict(LLAMA, CHAT, [(H100, Method(engine="vllm")), (H100, draft)])
    plain, fast = (found.metrics["tpot_s"] for found in said)
    assert fast.value < plain.value and fast.high / fast.low > plain.high / plain.low
    assert any(
        "published acceptance" in reason for reason in predictor.explain(LLAMA, CHAT, [(H100, draft)])[0]
    )


def test_the_test_tables_have_no_energy() -> None:
    assert not np.isfinite(many().metrics["energy_j_per_token"]).any()


def test_pairs_of_equal_columns_share_a_forecast_and_every_pair_gets_its_own() -> None:
    predictor = TrainedPredictor(parts(energy=JOULES))
    methods = [
        Method(engine=engine, techniques=(Precision(dtype="bf16"), *more))
        for engine in ("vllm", "sglang", "tensorrt-llm")
        for more in ((), (Speculative(algorithm="ngram", tokens=3),), (Speculative(algorithm="eagle3"),))
    ]
    pairs = [(H100, method) for method in [*methods, *reversed(methods), methods[4].model_copy()]]
    together = predictor.forecast(LLAMA, CHAT, pairs)
    for row, pair in enumerate(pairs):
        alone = predictor.forecast(LLAMA, CHAT, [pair])
        for metric, values in alone.log_median.items():
            assert together.log_median[metric][row] == pytest.approx(values[0], abs=1e-5), metric
            assert together.log_scale[metric][row] == pytest.approx(alone.log_scale[metric][0], abs=1e-5)
        assert together.p_ok[row] == pytest.approx(alone.p_ok[0])
