"""metainf measure and study of pictures: plans, refusals, and real pipelines in processes of their own."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drawing_folder import write_pipeline
from engines_here import starts
from metainf.catalog.digits import are_trained
from metainf.cli.app import app
from metainf.cli.measuring import DRAWN
from metainf.domain import BadInput, MetaInfError, MissingExtra, NotSupported, Record
from metainf.measure.picture_names import recipe_name
from metainf.measure.picture_recipes import recipe
from metainf.store import open_store

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
pytest.importorskip("psutil", reason="the extra measure is not installed")
needs_diffusers = starts("torch", "diffusers", "torchao")

needs_digits = pytest.mark.skipif(
    not are_trained(), reason="the digits are not trained: python benchmarks/train_digits.py"
)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAINF_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # tests may share the cores, where threads wait for each other
    return tmp_path / "records.sqlite"


def run(command: str) -> str:
    ran = CliRunner().invoke(app, command.split())
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return ran.stdout


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("--workload image", BadInput, "expected a model that draws"),
        ("--model sdxl-like/small --workload image:250", BadInput, "multiple of 8 pixels"),
        ("--model sdxl-like/small --workload image:big", BadInput, "expected image, image:256"),
        ("--model sdxl-like/small --workload image --rate 3", BadInput, "batch after batch"),
        ("--model sdxl-like/huge", BadInput, "did you mean sdxl-like"),
        ("--model sdxl-like/small --method steps-2+steps-4", BadInput, "two that differ"),
        ("--model flux-like/tiny --method distilled", NotSupported, "no smaller student"),
        ("--model SmolLM2-135M-Instruct --workload image --engine diffusers", NotSupported, "makes text"),
    ],
)
def test_what_makes_no_sense_is_refused(command: str, error: type, words: str) -> None:
    found = CliRunner().invoke(app, ["measure", *command.split()]).exception
    assert isinstance(found, MetaInfError), found
    assert isinstance(found, error) and words in str(found), str(found)


def test_the_words_of_the_help_are_words() -> None:
    from metainf import catalog
    from metainf.engines import engine
    from metainf.measure.serving import drawing_engine

    model = catalog.find_model("sdxl-like/small")
    assert all(recipe(name, model, drawing_engine(engine("diffusers"))) for name in DRAWN)


def test_without_the_engine_the_pip_line_is_told() -> None:
    from metainf.measure.programs import Machine, runnable

    with pytest.raises(MissingExtra, match=r"pip install 'metainf\[images\]'"):
        runnable(("python", "-m", "metainf.hosts.diffusers", "digits"), Machine(has_module=lambda _: False))


@needs_diffusers
def test_a_plan_of_pictures_costs_nothing(store: Path) -> None:
    told = json.loads(
        run("measure --model sdxl-like/small --workload image:256@4 --batch 1 --batch 2 --dry-run --json")
    )
    assert len(told["runs"]) == 8 and told["expected_s"] > 0
    assert all("metainf.hosts.diffusers sdxl-like/small" in each["command"] for each in told["runs"])


@needs_diffusers
def test_pictures_are_measured_and_gone_on_with(store: Path) -> None:
    """Two methods of a real pipeline, each in a process of its own; a resumed sweep makes no run again."""
    command = (
        "measure --model sdxl-like/tiny --workload image:64@2 --workload image:32@2 --method baseline "
        "--method bf16+sdpa --repeats 1 --json"
    )
    told = json.loads(run(command))
    records = [Record.of(each) for each in told["records"]]
    assert [record.outcome.kind for record in records] == ["measured"] * 4, told
    for record in records:
        metrics, work = record.metrics, record.setting.workload
        assert metrics is not None and metrics.images_per_s and metrics.steps_per_s and metrics.e2e_s
        assert metrics.memory_gib and metrics.memory_gib > 0.1, "of the process, seen from outside"
        assert (
            work.width_px in (32, 64) and work.steps == 2 and work.batch_size == 1 and work.num_requests == 2
        )
        assert record.setting.model.name == "sdxl-like/tiny"
        assert (record.setting.model.source or "").startswith("synthetic")
        assert record.method.engine == "diffusers" and record.method.engine_version
        conditions = record.provenance.conditions
        assert conditions is not None and conditions.warm_up_s and conditions.duration_s
    quality = {line["method"]: (line["quality"], line["quality_metric"]) for line in told["lines"]}
    assert quality["baseline"][0] is None
    likeness, name = quality["bf16+sdpa"]
    assert name == "psnr_db" and 10 < likeness < 99
    with open_store(store) as opened:
        assert opened.count() == opened.check() == 4
    again = json.loads(run(f"{command} --resume"))
    assert (again["resumed"], len(again["records"])) == (4, 4)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, as diffusers saves one."""
    return write_pipeline(tmp_path_factory.mktemp("tiny"))


@needs_diffusers
def test_a_folder_with_weights_is_measured(store: Path, pipeline: Path) -> None:
    asked = f"measure --model {pipeline} --workload image:32@2 --method baseline --method bf16+sdpa"
    told = json.loads(run(f"{asked} --repeats 1 --json"))
    plain, half = map(Record.of, told["records"])
    assert (plain.outcome.kind, half.outcome.kind) == ("measured", "measured"), told
    assert plain.metrics is not None and plain.metrics.images_per_s and plain.setting.model.denoiser_params_b
    assert half.metrics is not None and half.metrics.quality_metric == "psnr_db"
    assert half.metrics.quality is not None and 15 < half.metrics.quality < 99


def without(index: dict[str, object], part: str) -> None:
    index[part] = [None, None]


@needs_diffusers
@pytest.mark.parametrize(
    ("change", "method", "error", "words"),
    [
        (lambda index: without(index, "vae"), "tiny-vae", BadInput, "expected vae for a StableDiffusionXL"),
        (lambda index: without(index, "unet"), "baseline", BadInput, "no denoiser"),
        (lambda index: index.update(_class_name="StableDrawing"), "sdpa", BadInput, "'StableDrawing'"),
        (lambda index: index.update(prior=["diffusers", "Prior"]), "sdpa", BadInput, "names prior"),
        (lambda index: index.update(_class_name="KandinskyPipeline"), "tiny-vae", NotSupported, "FOLDER"),
        (lambda index: None, "distilled:{empty}", NotSupported, "expected a folder unet"),
    ],
    ids=["vae", "unet", "class", "folder", "tiny", "student"],
)  # fmt: skip
def test_a_folder_that_cannot_draw_is_told_before_a_run(
    pipeline: Path, tmp_path: Path, change: object, method: str, error: type, words: str
) -> None:
    folder, empty = tmp_path / "mine", tmp_path / "empty"
    empty.mkdir()
    shutil.copytree(pipeline, folder)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    change(index)  # type: ignore[operator]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    asked = ["measure", "--model", str(folder), "--workload", "image:32@2", "--dry-run", "--method"]
    found = CliRunner().invoke(app, [*asked, method.format(empty=empty)]).exception
    assert isinstance(found, error) and words in str(found), found


@needs_digits
@needs_diffusers
def test_digits_are_judged_and_shown_and_what_a_host_refuses_is_a_failed_record(store: Path) -> None:
    """flash3 is a kernel of GPUs: the host says so, and the record keeps it."""
    words = "measure --model digits --batch 50 --requests 50 --method few-2 --method flash3 --repeats 1"
    told = run(words)
    assert "like real" in told and "images/s" in told and "few-2" in told
    with open_store(store) as opened:
        held = {recipe_name(record.method): record for record in opened.query()}
    metrics, outcome = held["few-2"].metrics, held["flash3"].outcome
    assert metrics is not None and metrics.quality and metrics.quality_metric == "real_digits_f1"
    assert outcome.kind == "failed" and outcome.reason in ("unsupported", "crashed"), outcome


@needs_digits
@needs_diffusers
def test_a_small_study_of_pictures(tmp_path: Path) -> None:
    command = "study images run --model digits --method baseline --method few-2 --repeats 1"
    planned = json.loads(run(f"{command} --dry-run --json"))
    assert [(row["model"], row["runs"]) for row in planned] == [("digits", 2)]
    assert json.loads(run(f"{command} --json")) == {"made": 2, "failed": 0, "resumed": 0, "unmade": 0}
    page, store = tmp_path / "page.md", tmp_path / "records.sqlite"
    rows = json.loads(
        run(f"study images show --store {store} --report {page} --plots {tmp_path / 'figures'} --json")
    )
    assert {row["method"] for row in rows} == {"baseline", "few-2"}
    assert all(row["images_per_s"] > 0 and row["quality_metric"] == "real_digits_f1" for row in rows)
    assert "few-2" in page.read_text(encoding="utf-8")
    assert list((tmp_path / "figures").glob("study-images-*.svg"))
