"""The image learner: laws it must find in made-up runs, and what it must not pretend to know."""

import numpy as np
import pytest

from metainf import catalog
from metainf.domain import (
    ArtifactError,
    AttentionBackend,
    BadInput,
    Compile,
    Device,
    Hardware,
    Measured,
    Method,
    Metrics,
    Model,
    Parallelism,
    Precision,
    Provenance,
    Record,
    Setting,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.embed import drawing
from metainf.embed.columns import Columns, columns
from metainf.learn.image_runs import measured, merged
from metainf.learn.images import DrawingLearner
from metainf.learn.table import Table, table

MODELS = {
    name: Model(
        name=name, modality="image", denoiser="UNet2DConditionModel", denoiser_params_b=size,
        denoiser_tflop_per_step=flop, default_resolution_px=512, default_steps=20, guidance_doubles=True,
        text_encoder_params_b=0.1, vae_params_b=0.1,
    )
    for name, size, flop in (("tiny", 0.4, 0.3), ("small", 0.9, 0.8), ("large", 2.6, 2.0), ("huge", 6.0, 5.0))
}  # fmt: skip
DEVICES = {
    name: Device(
        name=name, memory_gib=24, memory_bandwidth_gb_per_s=bandwidth, fp16_tflops=flops, bf16_tflops=flops,
        fp32_tflops=flops / 4, tdp_w=300, compute_capability="8.9",
    )
    for name, bandwidth, flops in (("slow", 300.0, 60.0), ("middle", 600.0, 120.0), ("fast", 1200.0, 240.0))
}  # fmt: skip
SPEED = {"plain": 1.0, "compiled": 0.7}
HALF, COMPILED = Precision(dtype="fp16"), Compile()


def seconds(model: Model, device: Device, batch: int, technique: str) -> float:
    passes = 2 * (model.denoiser_tflop_per_step or 0) * 20 / (0.4 * (device.fp16_tflops or 1))
    return (passes * batch + 0.2) * SPEED[technique]


def run(model: Model, device: Device, batch: int, technique: str, watts: float | None = None) -> Record:
    took = seconds(model, device, batch, technique)
    metrics = Metrics(
        e2e_s=took,
        images_per_s=batch / took,
        energy_j_per_request=None if watts is None else watts * took / batch,
    )
    parts: tuple[Technique, ...] = (HALF, COMPILED) if technique == "compiled" else (HALF,)
    return Record(
        setting=Setting(
            model=model, workload=Workload(batch_size=batch, steps=20),
            hardware=Hardware(device=device, count=1),
        ),
        method=Method(engine="diffusers", techniques=parts),
        outcome=Measured(metrics=metrics), provenance=Provenance(source="made-up"),
    )  # fmt: skip


def history() -> Table:
    return table(
        run(model, device, batch, technique, watts=240.0)
        for model in MODELS.values()
        for device in DEVICES.values()
        for batch in (1, 2, 4, 8)
        for technique in SPEED
    )


def asked(job: Workload, *techniques: Technique, model: str = "small", device: str = "middle") -> Columns:
    machine = Hardware(device=DEVICES[device], count=1)
    return columns([MODELS[model]], [job], [machine], [Method(engine="diffusers", techniques=techniques)])


@pytest.fixture(scope="module")
def learner() -> DrawingLearner:
    return DrawingLearner().fit(history())


def value(learner: DrawingLearner, found: Columns, metric: str) -> float:
    return float(np.exp(learner.forecast(found).log_median[metric][0]))


def test_what_was_measured_comes_back(learner: DrawingLearner) -> None:
    for model in MODELS:
        for batch in (1, 8):
            found = asked(Workload(batch_size=batch, steps=20), HALF, model=model)
            truth = seconds(MODELS[model], DEVICES["middle"], batch, "plain")
            assert value(learner, found, "e2e_s") == pytest.approx(truth, rel=0.35)


def test_compiling_helps_as_it_did(learner: DrawingLearner) -> None:
    job = Workload(batch_size=4, steps=20)
    share = value(learner, asked(job, HALF, COMPILED), "e2e_s") / value(learner, asked(job, HALF), "e2e_s")
    assert share == pytest.approx(0.7, abs=0.1)
    assert any(reason.startswith("compiling: -") for reason in learner.explain(asked(job, HALF, COMPILED)))


def test_work_and_batch_count(learner: DrawingLearner) -> None:
    one, twice = (asked(Workload(batch_size=1, steps=steps), HALF) for steps in (20, 40))
    assert value(learner, twice, "e2e_s") > 1.5 * value(learner, one, "e2e_s")
    four = asked(Workload(batch_size=4, steps=20), HALF)
    assert value(learner, four, "images_per_s") * value(learner, four, "e2e_s") == pytest.approx(4)
    assert value(learner, four, "memory_gib") > value(learner, one, "memory_gib")


def test_more_than_a_batch_in_flight_waits(learner: DrawingLearner) -> None:
    calm, busy = (asked(Workload(batch_size=1, steps=20, concurrency=load), HALF) for load in (1.0, 8.0))
    assert value(learner, busy, "images_per_s") == pytest.approx(value(learner, calm, "images_per_s"))
    assert value(learner, busy, "e2e_s") == pytest.approx(8 * value(learner, calm, "e2e_s"))
    rare = asked(Workload(batch_size=1, steps=20, request_rate_per_s=1e-3), HALF)
    assert value(learner, rare, "images_per_s") == pytest.approx(1e-3)


def test_copies_multiply_the_rate_and_the_power(learner: DrawingLearner) -> None:
    job = Workload(batch_size=1, steps=20)
    one, four = asked(job, HALF), asked(job, HALF, Parallelism(data=4))
    assert value(learner, four, "images_per_s") == pytest.approx(4 * value(learner, one, "images_per_s"))
    assert value(learner, four, "power_w") == pytest.approx(4 * value(learner, one, "power_w"))
    joules = value(learner, one, "power_w") / value(learner, one, "images_per_s")
    assert value(learner, one, "energy_j_per_request") == pytest.approx(joules)
    assert value(learner, one, "power_w") == pytest.approx(240, rel=0.1)


def test_the_new_is_less_certain(learner: DrawingLearner) -> None:
    job = Workload(batch_size=1, steps=20)
    machine, odd = (
        Hardware(device=DEVICES["fast"], count=1),
        DEVICES["fast"].model_copy(update={"name": "odd"}),
    )
    other = MODELS["small"].model_copy(update={"name": "never-seen"})
    method = Method(engine="diffusers", techniques=(HALF,))
    known = columns([MODELS["small"]], [job], [machine], [method])
    both = columns([other], [job], [Hardware(device=odd, count=1)], [method])
    widths = [learner.forecast(found).log_scale["e2e_s"][0] for found in (known, both)]
    assert widths[0] < widths[1]


def test_shares_of_the_features_are_whole_and_name_what_matters(learner: DrawingLearner) -> None:
    for shares in learner.leans.values():
        assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0
    assert any("compile" in name for name in learner.leans["SHAP values"])


def test_an_unknown_denoiser_or_device_is_unknown(learner: DrawingLearner) -> None:
    job, method = Workload(batch_size=1, steps=20), Method(engine="diffusers", techniques=(HALF,))
    bare = Model(name="bare", modality="image")
    machine = Hardware(device=DEVICES["fast"], count=1)
    assert np.isnan(learner.forecast(columns([bare], [job], [machine], [method])).log_median["e2e_s"][0])
    nowhere = Hardware(device=Device(name="nowhere"), count=1)
    assert np.isnan(
        learner.forecast(columns([MODELS["tiny"]], [job], [nowhere], [method])).log_median["e2e_s"][0]
    )


def test_dump_and_load_say_the_same(learner: DrawingLearner) -> None:
    found = asked(Workload(batch_size=2, steps=20), HALF, COMPILED)
    again = DrawingLearner.load(*learner.dump())
    for metric, values in learner.forecast(found).log_median.items():
        assert again.forecast(found).log_median[metric][0] == pytest.approx(values[0], rel=1e-12)
    state, boosters = learner.dump()
    with pytest.raises(ArtifactError, match="time"):
        DrawingLearner.load(state, {})
    with pytest.raises(ArtifactError, match="ridge"):
        DrawingLearner.load({k: v for k, v in state.items() if k != "ridge"}, boosters)


def test_text_history_teaches_no_pictures() -> None:
    with pytest.raises(BadInput, match="image models"):
        DrawingLearner().fit(history().take(np.arange(4)))


def test_repeats_merge_into_their_median() -> None:
    once = [run(MODELS["tiny"], DEVICES["slow"], 1, "plain")] * 2
    twice = table([*once, run(MODELS["tiny"], DEVICES["slow"], 2, "plain")])
    assert len(measured(twice)) == 3 and len(merged(twice)) == 2


def test_half_steps_and_flags_become_words() -> None:
    method = Method(
        engine="diffusers",
        techniques=(HALF, AttentionBackend(name="xformers"), WeightQuantization(format="INT8dq")),
    )
    found = columns(
        [MODELS["tiny"]], [Workload(batch_size=1)], [Hardware(device=DEVICES["slow"], count=1)], [method]
    )
    assert drawing.words(found) == [frozenset({"attention xformers", "weights int8dq"})]
    plain = asked(Workload(batch_size=1), HALF)
    assert drawing.words(plain) == [frozenset({"attention sdpa"})]


def test_pictures_grow_with_pixels_and_use_the_pipelines_own_steps() -> None:
    small, large = (asked(Workload(width_px=side, height_px=side), HALF) for side in (512, 1024))
    assert drawing.picture(large)["flop"][0] == pytest.approx(4**1.1 * drawing.picture(small)["flop"][0])
    assert drawing.picture(small)["steps"][0] == 20
    flux = catalog.find_model("black-forest-labs/FLUX.1-dev")
    method = Method(engine="diffusers", techniques=(HALF,))
    found = columns([flux], [Workload()], [Hardware(device=DEVICES["fast"], count=1)], [method])
    assert drawing.picture(found)["steps"][0] == 28 and drawing.picture(found)["guessed"][0] == 0
