"""The host of diffusers on real pipelines: methods are applied, seen at work, and answered for over HTTP."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'metainf[images]'")
diffusers = pytest.importorskip(
    "diffusers", reason="diffusers is not installed: pip install 'metainf[images]'"
)

from drawing_folder import ONE_BLOCK, write_pipeline  # noqa: E402
from metainf.catalog import find_model  # noqa: E402
from metainf.catalog.architectures import architecture  # noqa: E402
from metainf.catalog.digits import are_trained  # noqa: E402
from metainf.domain import (  # noqa: E402
    BadInput,
    Device,
    DistilledModel,
    Hardware,
    Method,
)
from metainf.engines import engine  # noqa: E402
from metainf.engines.evidence import Evidence, Reading, contradictions, unproven  # noqa: E402
from metainf.hosts import diffusers_load  # noqa: E402
from metainf.hosts.diffusers import Diffusers  # noqa: E402
from metainf.hosts.diffusers_words import read_words  # noqa: E402
from metainf.hosts.pictures import Drawn, Gallery, Sketch, sketch_of  # noqa: E402
from metainf.measure.drawing import Batches, drawings_of  # noqa: E402
from metainf.measure.likeness import psnr_db  # noqa: E402
from metainf.measure.picture_recipes import recipe  # noqa: E402
from metainf.measure.recognising import recognised  # noqa: E402
from metainf.measure.resembling import resemblance  # noqa: E402
from metainf.measure.serving import Subject, drawing_engine, launch_of  # noqa: E402

pytestmark = pytest.mark.engine
ENGINE = drawing_engine(engine("diffusers"))
CPU = Hardware(device=Device(name="a-cpu", kind="cpu", memory_gib=16), count=1, nodes=1)
FUSED_KERNELS = ("enable_flash_sdp", "enable_mem_efficient_sdp", "enable_cudnn_sdp")
needs_digits = pytest.mark.skipif(
    not are_trained(), reason="the digits are not trained: python benchmarks/train_digits.py"
)
PX = 64
PIPELINES = ("sd15", "sdxl", "sd3", "flux", "pixart", "sana")


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    """A host owns its process; here several follow each other."""
    yield
    for name in FUSED_KERNELS:
        getattr(torch.backends.cuda, name)(True)


def host(model: str, method: str, work: str = "image@2") -> tuple[Diffusers, Evidence, list[str]]:
    """A host as it would be launched for a method, what is seen of one drawing, and what speaks against
    it."""
    facts = find_model(model)
    asked = recipe(method, facts, ENGINE)
    (drawing,) = drawings_of(work, facts, Batches((2,), 2))
    launch, launched = launch_of(ENGINE, Subject(facts, CPU), asked, drawing)
    painter = Diffusers(read_words([*launch.argv[3:], "--threads", "1"]))
    sketch = drawing.requests[0]
    size = (drawing.width_px, drawing.height_px, drawing.steps)
    painter.draw(Sketch(sketch.prompts, sketch.seeds, *size, looked_at=True))
    before = painter.metrics()
    painter.draw(Sketch(sketch.prompts, sketch.seeds, *size))
    evidence = ENGINE.evidence(Reading("", before, painter.metrics()))
    return painter, evidence, [*contradictions(launched, evidence), *unproven(launched, evidence)]


def drawn(painter: Diffusers, steps: int = 2) -> Drawn:
    """Small: some pipelines draw 1024 pixels where none are named."""
    return painter.draw(Sketch(("a red boat", "an old bridge"), (1, 2), PX, PX, steps))


@pytest.mark.parametrize("name", PIPELINES)
def test_every_architecture_draws_and_attention_kernels_are_told_apart(name: str) -> None:
    plain, seen, doubts = host(f"{name}-like/tiny", "baseline")
    assert doubts == [] and seen.attention == "plain" and seen.precision == "fp32"
    first = drawn(plain)
    assert first.pictures.shape[0] == 2 and first.pictures.shape[-1] == 3 and len(first.step_s) == 2
    assert np.isfinite(first.pictures).all() and first.pictures.std() > 0
    assert np.array_equal(first.pictures, drawn(plain).pictures), "the same seeds, the same pictures"
    assert first.draw_s > sum(first.step_s) > 0 and first.decode_s > 0
    for each in FUSED_KERNELS:
        getattr(torch.backends.cuda, each)(True)
    fused, seen, doubts = host(f"{name}-like/tiny", "sdpa")
    assert doubts == [] and seen.attention == "sdpa"
    likeness = psnr_db(list(drawn(fused).pictures), list(first.pictures))
    assert likeness is not None and likeness > 40, "another kernel, the same pictures"


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("sd15-like/tiny", "bf16+sdpa"),
        ("sdxl-like/tiny", "sdpa+fused-qkv"),
        ("sd3-like/tiny", "sdpa+fused-qkv"),
        ("flux-like/tiny", "sdpa+fused-qkv"),
        ("pixart-like/tiny", "sdpa+fused-qkv"),
        ("sd15-like/tiny", "sdpa+channels-last+tiny-vae"),
        ("sd15-like/tiny", "fp16+sdpa"),
        ("sdxl-like/tiny", "sdpa+distilled+tiny-vae"),
        ("sdxl-like/tiny", "sdpa+fused-qkv+distilled"),
        ("sd15-like/tiny", "sdpa+lcm-3"),
        ("sdxl-like/tiny", "sdpa+turbo-1"),
        ("flux-like/tiny", "sdpa+steps-3"),
        pytest.param("digits", "sdpa+few-2", marks=needs_digits),
        pytest.param("digits", "bf16+sdpa+distilled", marks=needs_digits),
        pytest.param("digits", "sdpa+qint8+few-2", marks=needs_digits),
    ],
)
def test_methods_are_seen_at_work(model: str, method: str) -> None:
    painter, seen, doubts = host(model, method)
    assert doubts == [], seen
    assert painter.metrics().startswith("# TYPE diffusers:info")


@needs_digits
@pytest.mark.parametrize("words", [(), ("--dtype", "bf16"), ("--quantize", "qint8")])
def test_a_teacher_that_draws_in_its_students_place_is_seen(words: tuple[str, ...]) -> None:
    painter = Diffusers(read_words(["digits", "--denoiser", "digits", *words, "--threads", "1"]))
    seen = ENGINE.evidence(Reading("", "", painter.metrics()))
    assert seen.denoiser_share == 1.0 and seen.denoiser_changed is False
    found = contradictions(Method(engine="diffusers", techniques=(DistilledModel(model="digits-few"),)), seen)
    assert len(found) == 1 and "the weights that draw are those without it" in found[0]


def test_a_student_in_a_folder_is_told_from_its_teacher_by_its_weights(tmp_path: Path) -> None:
    teacher = write_pipeline(tmp_path)
    config = diffusers.UNet2DConditionModel.load_config(teacher / "unet")
    torch.manual_seed(1)
    diffusers.UNet2DConditionModel.from_config(config).save_pretrained(tmp_path / "student" / "unet")
    for student, other in ((teacher, False), (tmp_path / "student", True)):
        words = [str(teacher), "--denoiser", str(student), "--dtype", "bf16", "--threads", "1"]
        for more in ([], ["--fuse-qkv", "--memory-format", "channels_last"]):
            painter = Diffusers(read_words([*words, *more]))
            seen = ENGINE.evidence(Reading("", "", painter.metrics()))
            assert (seen.denoiser_share, seen.denoiser_changed) == (1.0, other), more
    assert drawn(painter).pictures.std() > 0


WIDE = "pixart-like/small"
"""Synthetic (random weights), 384 wide: layers of at least 64 both ways are quantized, so all large ones."""


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """What the wide model draws in fp32."""
    return drawn(host(WIDE, "sdpa", "image:64@2")[0]).pictures


@pytest.mark.parametrize(("method", "least_db"), [("sdpa+int8", 20), ("sdpa+qint8", 20)])
def test_large_layers_compute_in_integers(method: str, least_db: float, wide: np.ndarray) -> None:
    """Modules and kernels say so, small and seldom layers are left alone, and the pictures stay near."""
    painter, seen, doubts = host(WIDE, method, "image:64@2")
    assert doubts == [] and seen.integer_kernels, painter.counters.facts
    denoiser = painter.loaded.denoiser
    linear = [name for name, layer in denoiser.named_modules() if type(layer) is torch.nn.Linear]
    blocks = denoiser.config["num_layers"]
    assert seen.quantized_layers is not None and seen.quantized_layers >= 10 * blocks, "all of every block"
    plain = [name for name in linear if "transformer_blocks" in name and not quantized(denoiser, name)]
    assert plain == [], "none of a block is left in floating point"
    likeness = psnr_db(list(drawn(painter).pictures), list(wide))
    assert likeness is not None and least_db < likeness < 99, "near, and not the very same"


def quantized(denoiser: object, name: str) -> bool:
    """Whether a layer's weight is one of torchao's."""
    return "torchao" in type(denoiser.get_submodule(name).weight).__module__  # type: ignore[attr-defined]


@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("sd3-like/tiny", "sdpa+compile"),
        pytest.param(
            "sd15-like/tiny",
            "sdpa+channels-last+compile",
            marks=pytest.mark.skipif(
                not os.environ.get("METAINF_SLOW"), reason="compiles for minutes: METAINF_SLOW=1"
            ),
        ),
    ],
)
def test_a_compiled_denoiser_runs_other_kernels_and_draws_the_same(model: str, method: str) -> None:
    eager = drawn(host(model, "sdpa", "image:64@2")[0]).pictures
    painter, seen, doubts = host(model, method, "image:64@2")
    assert doubts == [] and seen.compiled is True
    likeness = psnr_db(list(drawn(painter).pictures), list(eager))
    assert likeness is not None and likeness > 40


@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_unet_keeps_its_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    tiny = architecture("sd15-like/tiny")
    assert tiny is not None
    params = sum(value.numel() for value in diffusers.UNet2DConditionModel(**ONE_BLOCK).parameters())
    small = replace(tiny, denoiser_config=ONE_BLOCK, denoiser_params=params)
    monkeypatch.setattr(diffusers_load, "architecture", lambda _: small)
    eager = Diffusers(read_words(["sd15-like/tiny", "--attention", "sdpa", "--threads", "1"]))
    words = ["sd15-like/tiny", "--compile", "--memory-format", "channels_last", "--threads", "1"]
    before = counters["stats"]["unique_graphs"]
    painter = Diffusers(read_words(words))
    painter.draw(Sketch(("a red boat", "an old bridge"), (1, 2), PX, PX, 2, looked_at=True))
    assert counters["stats"]["unique_graphs"] == before + 1, "one graph, without a break"
    seen = ENGINE.evidence(Reading("", "", painter.metrics()))
    assert (seen.compiled, seen.memory_format, seen.denoiser_share) == (True, "channels_last", 1.0)
    likeness = psnr_db(list(drawn(painter).pictures), list(drawn(eager).pictures))
    assert likeness is not None and likeness > 40
    assert counters["stats"]["unique_graphs"] == before + 1, "the same shape is not compiled again"


def test_pointwise_convolutions_become_linear_layers() -> None:
    from metainf.hosts.diffusers_apply import linear_pointwise

    conv = torch.nn.Conv2d
    net = torch.nn.Sequential(conv(6, 4, 1), conv(4, 3, 3), conv(3, 3, 1, stride=2))
    x = torch.randn(2, 6, 8, 8)
    with torch.no_grad():
        before = net(x)
        assert linear_pointwise(torch, net) == 1
        assert torch.allclose(net(x), before, atol=1e-5)


def test_a_method_that_does_not_take_is_seen() -> None:
    _, seen, doubts = host("sana-like/tiny", "sdpa")
    assert doubts == []
    from metainf.domain import FusedQkv

    asked = Method(engine="diffusers", techniques=(FusedQkv(),))
    assert "the modules say otherwise" in contradictions(asked, seen)[0]


@needs_digits
def test_fewer_steps_are_recognised_as_well_and_cost_variety() -> None:
    """In few steps the model draws the mean of each class: recognised, and all alike. The student of as few
    steps does not, and another number format changes nothing."""
    labels = [place % 10 for place in range(80)]
    texts, seeds = tuple(map(str, labels)), tuple(range(len(labels)))

    def seen(method: str, *asked: int) -> list[float]:
        painter, _, doubts = host("digits", method)
        assert doubts == []
        found = []
        for steps in asked:
            pictures = painter.draw(Sketch(texts, seeds, steps=steps)).pictures
            alike = resemblance(pictures, labels)
            assert alike is not None and recognised(pictures, labels) > 0.9, (method, steps)
            found.append(alike.f1)
        return found

    whole, half, few, rushed = seen("sdpa", 12, 4, 2, 1)
    assert whole > half > few > rushed and rushed < 0.05, (whole, half, few, rushed)
    assert seen("sdpa+few-2", 12)[0] > few + 0.1
    assert seen("bf16+sdpa", 12)[0] == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "expected prompt"),
        ({"prompt": ["a", 3]}, "expected prompt"),
        ({"prompt": "a", "n": 0}, "expected n"),
        ({"prompt": "a", "size": "big"}, "expected size such as 512x512"),
        ({"prompt": "a", "steps": "many"}, "expected steps"),
        ({"prompt": "a", "seeds": [1, 2]}, "expected seeds to be 1"),
    ],
)
def test_requests_that_make_no_sense_are_told(body: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        sketch_of(body)


@needs_digits
def test_the_images_api_answers_with_pictures_and_times() -> None:
    from aiohttp.test_utils import TestClient, TestServer

    painter = Diffusers(read_words(["digits", "--threads", "1"]))

    async def ask(body: object) -> tuple[int, dict[str, object]]:
        async with TestClient(TestServer(Gallery(painter).application())) as client:
            answer = await client.post("/v1/images/generations", json=body)
            return answer.status, json.loads(await answer.text())

    status, found = asyncio.run(ask({"prompt": "7", "n": 2, "steps": 2, "size": "8x8"}))
    assert status == 200 and len(found["data"]) == 2  # type: ignore[arg-type]
    assert set(found["timing"]) == {"draw_s", "step_s", "decode_s"}  # type: ignore[call-overload]
    assert asyncio.run(ask({"prompt": "a boat"}))[0] == 400
    status, found = asyncio.run(ask({"prompt": "7", "size": "16x16"}))
    assert status == 400 and "expected 8 pixels" in json.dumps(found)
