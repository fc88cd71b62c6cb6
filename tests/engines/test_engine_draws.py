"""Diffusers as an engine: words of its host, and the program that people get, run on a real pipeline."""

import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from drawing_folder import write_pipeline
from metainf import catalog
from metainf.domain import (
    AttentionBackend,
    Autoencoder,
    Compile,
    Device,
    DistilledModel,
    FusedQkv,
    Hardware,
    MemoryFormat,
    Method,
    NotSupported,
    Parallelism,
    Precision,
    Schedule,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines import engine
from metainf.engines.diffusers import Diffusers
from metainf.engines.diffusers_script import BACKENDS, QUANTIZERS, SCHEDULES
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.measurable import Drawer
from metainf.hosts.diffusers_words import DTYPES, QUANTIZATIONS, read_words
from metainf.testing.engine_suite import H100

CPU = Hardware(device=Device(name="a-cpu", kind="cpu", memory_gib=16), count=1, nodes=1)
SMALL = catalog.find_model("sdxl-like/small")
SDXL = catalog.find_model("sdxl")


def method(*techniques: Technique) -> Method:
    return Method(engine="diffusers", techniques=techniques)


FAST = method(
    Precision(dtype="bf16"), AttentionBackend(name="sdpa"), FusedQkv(), WeightQuantization(format="int8dq"),
    MemoryFormat(name="channels_last"), DistilledModel(model="ssd-1b-like/small"),
    Autoencoder(name="tiny"), Schedule(name="lcm", steps=4, guided=False),
)  # fmt: skip


def test_the_hosts_words_say_the_method() -> None:
    launch = Diffusers().serve(SMALL, FAST, CPU, Workload())
    assert launch.argv[:4] == ("python", "-m", "metainf.hosts.diffusers", "sdxl-like/small")
    words = read_words([*launch.argv[3:], *Diffusers().address("127.0.0.1", 1234)])
    assert (words.dtype, words.attention, words.fuse_qkv, words.quantize) == ("bf16", "sdpa", True, "int8dq")
    assert (words.denoiser, words.autoencoder) == ("ssd-1b-like/small", "tiny")
    assert (words.schedule, words.steps, words.guidance) == ("lcm", 4, False)
    assert (words.memory_format, words.compile, words.device) == ("channels_last", False, "cpu")
    on_gpu = Hardware(device=H100, count=1)
    assert "cuda" in Diffusers().serve(SMALL, method(Precision(dtype="tf32")), on_gpu, Workload()).argv
    with pytest.raises(NotSupported, match="one device"):
        Diffusers().serve(SMALL, method(Parallelism(data=2)), on_gpu, Workload())


def test_one_table_of_names_stands_in_host_and_program() -> None:
    assert set(QUANTIZATIONS) == {*QUANTIZERS, "qint8"} and "turbo" in SCHEDULES
    assert set(DTYPES) == {"fp32", "tf32", "fp16", "bf16"} and "sdpa" in BACKENDS
    assert isinstance(engine("diffusers"), Drawer) and not isinstance(engine("vllm"), Drawer)


def test_an_empty_page_is_no_evidence() -> None:
    assert Diffusers().evidence(Reading()) == Evidence()
    assert Diffusers().evidence(Reading("garbage", "{", "}{")) == Evidence()


@pytest.mark.parametrize(
    ("technique", "step"),
    [
        (Precision(dtype="tf32"), 'set_float32_matmul_precision("high")'),
        (AttentionBackend(name="plain"), "enable_flash_sdp(False)"),
        (MemoryFormat(name="channels_last"), "channels_last"),
        (DistilledModel(model="segmind/SSD-1B"), "DiffusionPipeline.from_pretrained('segmind/SSD-1B')"),
        (DistilledModel(model="latent-consistency/lcm-sdxl"), "'latent-consistency/lcm-sdxl', torch_dtype"),
        (DistilledModel(model="mine/small"), "'mine/small', subfolder=part"),
        (Autoencoder(name="tiny"), "madebyollin/taesdxl"),
        (Schedule(name="lcm", steps=4, guided=False), "LCMScheduler.from_config"),
        (Schedule(name="turbo", steps=1, guided=False), "timestep_spacing='trailing'"),
        (WeightQuantization(format="qint8"), "quantize_dynamic"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_every_step_stands_in_the_program(technique: Technique, step: str) -> None:
    (text,) = Diffusers().launch(SDXL, method(technique), CPU, Workload()).files.values()
    compile(text, "draw.py", "exec")
    assert step in text


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'metainf[images]'")
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'metainf[images]'")
    return write_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    "techniques",
    [
        (Precision(dtype="bf16"), AttentionBackend(name="sdpa"), FusedQkv()),
        (AttentionBackend(name="plain"), Schedule(name="lcm", steps=2, guided=False)),
        (
            AttentionBackend(name="sdpa"),
            WeightQuantization(format="int8dq"),
            MemoryFormat(name="channels_last"),
        ),
    ],
    ids=["bf16+sdpa+fused-qkv", "lcm-2", "int8+channels-last"],
)
def test_the_program_draws(pipeline: Path, tmp_path: Path, techniques: tuple[Technique, ...]) -> None:
    """What `metainf select` prints, run as it stands on a folder with a pipeline."""
    draws(pipeline, tmp_path, techniques, ["a red boat", "an old bridge", "three apples"])


@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_program_compiles(tmp_path: Path) -> None:
    """A UNet of one block, as a larger one takes minutes."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'metainf[images]'")
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'metainf[images]'")
    techniques = (AttentionBackend(name="sdpa"), MemoryFormat(name="channels_last"), Compile())
    pipeline = write_pipeline(tmp_path / "tiny", one_block=True)
    wrote = draws(pipeline, tmp_path, techniques, ["a red boat", "an old bridge"])
    assert 'compile(mode="max-autotune", fullgraph=True)' in wrote


def draws(pipeline: Path, folder: Path, techniques: tuple[Technique, ...], prompts: list[str]) -> str:
    """The program's text, after it drew a picture for each prompt."""
    model = catalog.find_model(str(pipeline)).model_copy(update={"source": str(pipeline)})
    assert model.denoiser == "UNet2DConditionModel" and model.denoiser_params_b
    work = Workload(width_px=16, height_px=16, steps=2, batch_size=2)
    launch = Diffusers().launch(model, method(*techniques), CPU, work)
    (name,) = launch.files
    (folder / name).write_text(launch.files[name], encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, name], cwd=folder, input="\n".join(prompts), capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    pictures = sorted(folder.glob("*.png"))
    assert [path.name for path in pictures] == [f"image-{n:05d}.png" for n in range(len(prompts))]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    return launch.files[name]
