"""Pictures to draw: what is asked, the words of methods, likeness, and what is told before anything runs."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf import catalog
from metainf.domain import (
    AttentionBackend,
    Autoencoder,
    BadInput,
    Compile,
    Device,
    DistilledModel,
    FusedQkv,
    Hardware,
    MemoryFormat,
    MetaInfError,
    Method,
    NotSupported,
    Precision,
    Schedule,
    Technique,
    UnknownName,
    WeightQuantization,
    Workload,
)
from metainf.engines import engine
from metainf.engines.evidence import Evidence, contradictions, unproven
from metainf.measure.asked import asked_workload
from metainf.measure.drawing import Batches, drawings_of, is_drawing
from metainf.measure.likeness import MOST_DB, picture_of, psnr_db
from metainf.measure.order import Order, lay_out
from metainf.measure.picture_names import recipe_name
from metainf.measure.picture_recipes import FIXED, NAMES, methods_of, recipe
from metainf.measure.recipes import is_plain
from metainf.measure.serving import Subject, drawing_engine
from metainf.study.image_parts import (
    DIGITS,
    GPU_PARTS,
    GPU_TRANSFORMER,
    GPU_UNET,
    LARGER_UNET,
    PARTS,
    TRANSFORMER,
    UNET,
    ImagePart,
    parts,
)
from metainf.testing.engine_suite import H100

DIFFUSERS = drawing_engine(engine("diffusers"))
SDXL, FLUX, SANA = (
    catalog.find_model(name) for name in ("sdxl-like/small", "flux-like/small", "sana-like/small")
)
DIGITS_MODEL = catalog.find_model("digits")
CPU = Hardware(device=Device(name="a-cpu", kind="cpu", memory_gib=16), count=1, nodes=1)


def test_a_text_names_pixels_steps_and_batches() -> None:
    one, four = drawings_of("image:256x192@7", SDXL, Batches((1, 4)))
    assert (one.width_px, one.height_px, one.steps, one.batch, one.pictures) == (256, 192, 7, 1, 2)
    assert (four.batch, four.pictures, len(four.requests)) == (4, 8, 2)
    assert four.name == "image-256x192-s7-b4"
    work = asked_workload(four)
    assert work == Workload(
        name=four.name, width_px=256, height_px=192, steps=7, batch_size=4, num_requests=8
    )
    seeds = [seed for sketch in four.requests for seed in sketch.seeds]
    assert len(set(seeds)) == len(seeds), "each picture has a noise of its own"
    assert drawings_of("image", SDXL, Batches())[0].steps == 50, "the model's own"
    assert drawings_of("image:256@7", SDXL, Batches(seed=1))[0].requests != one.requests


def test_digits_are_asked_for_by_themselves_and_all_are_compared() -> None:
    (asked,) = drawings_of("image", DIGITS_MODEL, Batches((50,)))
    assert (asked.width_px, asked.height_px, asked.pictures) == (8, 8, 200)
    assert asked.reference == asked.requests
    assert {text for sketch in asked.requests for text in sketch.prompts} == set("0123456789")


@pytest.mark.parametrize(
    ("text", "batches", "words"),
    [
        ("image:big", Batches(), "expected image, image:256"),
        ("image:0", Batches(), "at least 1|expected"),
        ("picture", Batches(), "unknown workload"),
        ("image", Batches((0,)), "at least 1 picture in a batch"),
        ("image", Batches(pictures=0), "at least 1 picture"),
    ],
)
def test_what_is_no_drawing_is_refused(text: str, batches: Batches, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        drawings_of(text, SDXL, batches)
    assert is_drawing("image:512@4") and not is_drawing("images.csv") and not is_drawing("short_chat")


def test_recipes_hold_still_what_they_do_not_name() -> None:
    plain = recipe("baseline", SDXL, DIFFUSERS)
    assert is_plain(plain) and set(plain.techniques) == {
        Precision(dtype="fp32"),
        AttentionBackend(name="plain"),
    }
    fast = recipe("bf16+sdpa+few-2", DIGITS_MODEL, DIFFUSERS)
    assert not is_plain(fast) and fast.get(Schedule) == Schedule(steps=2, guided=False)
    assert fast.get(DistilledModel) == DistilledModel(model="digits-few")
    assert recipe("distilled", SDXL, DIFFUSERS).get(DistilledModel) == DistilledModel(
        model="ssd-1b-like/small"
    )
    everything = recipe("all", SDXL, DIFFUSERS)
    assert {type(t) for t in everything.techniques} == {
        Precision, AttentionBackend, FusedQkv, WeightQuantization, Compile,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("sdpaa", UnknownName, "did you mean sdpa"),
        ("bf16+fp16", BadInput, "one precision, found two"),
        ("few-2", NotSupported, "no few-step student"),
        ("steps-0", UnknownName, "unknown method"),
    ],
)
def test_words_that_are_none_are_refused(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        recipe(text, SDXL, DIFFUSERS)
    with pytest.raises(NotSupported, match="no smaller student"):
        recipe("distilled", FLUX, DIFFUSERS)


def test_a_method_is_taken_as_json_and_from_an_answer() -> None:
    method = recipe("bf16+sdpa", SDXL, DIFFUSERS)
    assert methods_of(method.canonical(), SDXL, DIFFUSERS)[0][1] == method
    found = methods_of(
        "@a.json", SDXL, DIFFUSERS, lambda _: f'{{"ranked": [{{"method": {method.canonical()}}}]}}'
    )
    assert [each for _, each in found] == [method]


@pytest.mark.parametrize("name", sorted({*UNET, *LARGER_UNET, *TRANSFORMER, *GPU_UNET, *GPU_TRANSFORMER}))
def test_names_give_their_recipe_back(name: str) -> None:
    assert recipe_name(recipe(name, SDXL, DIFFUSERS)) == name


@pytest.mark.parametrize("name", DIGITS)
def test_names_of_digits_give_their_recipe_back(name: str) -> None:
    assert recipe_name(recipe(name, DIGITS_MODEL, DIFFUSERS)) == name


def test_every_word_has_a_meaning_told() -> None:
    told = " ".join(NAMES)
    assert all(
        word in told for word in FIXED if word not in ("fp32", "plain", "flash", "flash3", "sage", "xformers")
    )


def npy(picture: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, picture.astype(np.float32))
    return base64.b64encode(file.getvalue()).decode()


def test_pictures_travel_as_texts() -> None:
    picture = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert np.array_equal(picture_of(npy(picture)), picture)


@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 0.2))
def test_likeness_falls_with_the_error_and_knows_a_flat_picture(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.random((8, 8, 3)).astype(np.float32)
    near = reference + np.float32(noise / 2) * rng.standard_normal(reference.shape).astype(np.float32)
    far = reference + np.float32(noise) * rng.standard_normal(reference.shape).astype(np.float32)
    close, distant = psnr_db([near], [reference]), psnr_db([far], [reference])
    assert close is not None and distant is not None and close > distant
    assert psnr_db([reference], [reference]) == MOST_DB
    assert psnr_db([reference], [reference[:4]]) is None and psnr_db([], []) is None
    flat, spread = np.full((4, 4, 1), 0.5, np.float32), np.full((4, 4, 1), 0.5, np.float32)
    spread[0] += 1e-2
    low = psnr_db([flat], [spread])
    assert low is not None and low < 20, "the error is as large as all that there is to see"


def order(model: object, *texts: str, method: str = "baseline", **more: object) -> Order:
    drawings = [drawing for text in texts for drawing in drawings_of(text, model, Batches())]  # type: ignore[arg-type]
    methods = [(method, recipe(method, model, DIFFUSERS))]  # type: ignore[arg-type]
    return Order(Subject(model, CPU), methods, drawings, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "text", "method", "words"),
    [
        (SDXL, "image:250@2", "baseline", "multiple of 8 pixels .* found 250: the nearest is 248"),
        (FLUX, "image:256x264@2", "baseline", "height that is a multiple of 16"),
        (SANA, "image:48@2", "baseline", "multiple of 32"),
        (DIGITS_MODEL, "image:16@2", "baseline", "draws 8 pixels of width only"),
        (SANA, "image:64@2", "fused-qkv", "cannot fuse"),
        (DIGITS_MODEL, "image@2", "tiny-vae", "has no autoencoder"),
        (SANA, "image:64@2", "tiny-vae", "no distilled autoencoder"),
        (FLUX, "image:64@2", "channels-last", "no convolutions"),
        (FLUX, "image:64@2", "lcm-4", "keeps its own solver"),
        (SDXL, "image:64@2", "tf32", "NVIDIA"),
        (SDXL, "image:64@2", "distilled:sdxl-like/small", "cannot be its own student"),
        (SDXL, "image:64@2", "bf16+qint8", "from fp32"),
        (SDXL, "image:64@2", "fp8", "does not compute in fp8"),
        (SDXL, "image:64@2", "cpu-offload", "leave cpu-offload out"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_a_run(model: object, text: str, method: str, words: str) -> None:
    with pytest.raises(MetaInfError, match=words):
        lay_out(order(model, text, method=method), lambda _: DIFFUSERS, "campaign")


def test_too_little_memory_is_told_with_the_arithmetic() -> None:
    big = catalog.find_model("flux-like/full")
    with pytest.raises(NotSupported, match=r"needs .* GiB per device \(weights"):
        lay_out(order(big, "image:1024@2"), lambda _: DIFFUSERS, "campaign")
    with pytest.raises(NotSupported, match=r"batch of pictures, 0\.5 GiB are free now"):
        lay_out(order(SDXL, "image:256@2", room_gib=0.5), lambda _: DIFFUSERS, "campaign")


def test_one_host_draws_every_size_of_a_method() -> None:
    layout = lay_out(order(SDXL, "image:256@2", "image:512@4"), lambda _: DIFFUSERS, "campaign")
    commands = {each.launch.command for each in layout.runs if each.launch is not None}
    assert len(layout.runs) == 2 and len(commands) == 1 and all(each.shares for each in layout.runs)
    assert len({each.run.key for each in layout.runs}) == 2
    assert all(each.expected_s > 0 for each in layout.runs)


def told(technique: Technique, **seen: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    method, evidence = Method(engine="diffusers", techniques=(technique,)), Evidence(**seen)  # type: ignore[arg-type]
    return contradictions(method, evidence), unproven(method, evidence)


INT8 = WeightQuantization(format="int8dq")
LAST = MemoryFormat(name="channels_last")
EIGHT_BITS = {"quantized_layers": 4, "integer_kernels": True}
WIDENED = {"quantized_layers": 4, "integer_kernels": False}


@pytest.mark.parametrize(
    ("technique", "seen", "against"),
    [
        (Precision(dtype="bf16"), {"precision": "bf16"}, {"precision": "fp32"}),
        (AttentionBackend(name="sdpa"), {"attention": "sdpa"}, {"attention": "plain"}),
        (AttentionBackend(name="plain"), {"attention": "plain"}, {"attention": "mixed"}),
        (FusedQkv(), {"fused_qkv": 1.0}, {"fused_qkv": 0.0}),
        (Compile(), {"compiled": True}, {"compiled": False}),
        (LAST, {"memory_format": "channels_last"}, {"memory_format": "contiguous"}),
        (INT8, EIGHT_BITS, {"quantized_layers": 0}),
        (INT8, EIGHT_BITS, WIDENED),
        (DistilledModel(model="s"), {"denoiser_share": 0.6}, {"denoiser_share": 1.4}),
        (DistilledModel(model="s"), {"denoiser_share": 0.6, "student_share": 1.0},
         {"denoiser_share": 1.0, "student_share": 1.7}),
        (DistilledModel(model="s"), {"denoiser_share": 1.0, "denoiser_changed": True},
         {"denoiser_share": 1.0, "denoiser_changed": False}),
        (DistilledModel(model="s"), {"denoiser_share": 0.6, "denoiser_changed": True},
         {"denoiser_share": 0.8, "student_share": 1.3, "denoiser_changed": True}),
        (Schedule(name="lcm", steps=4), {"scheduler": "LCMScheduler", "drawn_steps": 4.0},
         {"scheduler": "LCMScheduler", "drawn_steps": 8.0}),
        (Schedule(name="lcm"), {"scheduler": "LCMScheduler"}, {"scheduler": "DDIMScheduler"}),
        (Autoencoder(name="tiny"), {"autoencoder": "AutoencoderTiny"}, {"autoencoder": "AutoencoderKL"}),
    ],
    ids=lambda value: getattr(value, "kind", None),
)  # fmt: skip
def test_what_is_seen_proves_a_method_or_gainsays_it(
    technique: Technique, seen: dict[str, object], against: dict[str, object]
) -> None:
    assert told(technique, **seen) == ((), ())
    wrong, _ = told(technique, **against)
    assert len(wrong) == 1
    assert told(technique) == ((), (technique.kind,)), "nothing seen is no proof"


def test_a_student_as_large_as_its_teacher_is_not_proven_by_its_size() -> None:
    student = DistilledModel(model="s")
    assert told(student, denoiser_share=1.0) == ((), (student.kind,))
    assert told(student, denoiser_share=1.0, student_share=1.0) == ((), (student.kind,))


def test_the_study_names_what_there_is() -> None:
    assert {part.model for part in parts()} >= {part.model for part in PARTS if part.model != "digits"}
    for wrong, on_gpu in (("sd9", False), ("sdxl-like/full", False), ("sdxl-like/small", True)):
        with pytest.raises(BadInput, match="models of the study on a"):
            parts([wrong], on_gpu=on_gpu)
    (one,) = parts(["flux-like/full"], ["sdpa"], on_gpu=True)
    assert one.methods == ("sdpa",) and one.batches == (1, 2)


def runs_of(part: ImagePart, hardware: Hardware) -> int:
    """How many runs a part has; none of its methods is refused on the hardware."""
    model = catalog.find_model(part.model)
    drawings = [d for text in part.workloads for d in drawings_of(text, model, Batches(part.batches))]
    methods = [(text, recipe(text, model, DIFFUSERS)) for text in part.methods]
    asked = Order(Subject(model, hardware), methods, drawings, repeats=part.repeats)
    layout = lay_out(asked, lambda _: DIFFUSERS, part.campaign)
    assert layout.refused == () and len(layout.plain) == len(drawings), "the baseline is beside every drawing"
    return len(layout.runs)


def test_the_study_has_enough_runs_on_a_processor_and_on_a_gpu() -> None:
    roomy = H100.model_copy(update={"memory_gib": 141.0})
    here = sum(runs_of(part, CPU) for part in PARTS)
    there = {part.model: runs_of(part, Hardware(device=roomy, count=1)) for part in GPU_PARTS}
    assert here >= 150 and sum(there.values()) >= 150
    assert all(there[f"{name}-like/full"] >= 50 for name in ("sd15", "sdxl", "flux"))
    combined = [part.model for part in PARTS if any("channels-last+compile" in m for m in part.methods)]
    assert combined == ["sd15-like/small"]
