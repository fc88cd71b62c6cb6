"""metainf train on a store with this machine's own runs: select knows their engines, and nothing else moves.

The own runs are real: those of the study that ships. The history beside them is a handful of made-up runs.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from metainf import catalog
from metainf.api import catalogue
from metainf.api.choosing import load_predictor
from metainf.cli.app import app
from metainf.domain import (
    ArtifactError,
    BadInput,
    Failed,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.learn import artifact, own_history
from metainf.learn.artifact import Artifact
from metainf.learn.predictor import TrainedPredictor
from metainf.store import open_store
from metainf.study.parts import shipped

pytest.importorskip("xgboost", reason="the extra train is not installed")
STUDY = shipped()
pytestmark = pytest.mark.skipif(not STUDY, reason="no study is packaged")
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ASKED = (
    f"select --model {MODEL} --hardware here --input-tokens 32 --output-tokens 32 -c 16 --aim throughput "
    "--engine openvino --engine llama.cpp --offline --json"
)
CHAT = Workload(input_tokens=Lengths(mean=512), output_tokens=Lengths(mean=128), concurrency=8.0)
H100 = Hardware(device=catalog.find_device("h100-sxm"), count=1)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is the study's."""
    monkeypatch.setattr(catalogue, "detect", lambda: [STUDY[0].setting.hardware])


def history() -> list[Record]:
    """Runs of three known models on two known GPUs under six loads: 36 rows."""
    found = []
    for name in ("Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B", "Mistral-7B-Instruct-v0.3"):
        for device in ("h100-sxm", "l4"):
            for load in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
                model, hardware = (
                    catalog.find_model(name),
                    Hardware(device=catalog.find_device(device), count=1),
                )
                bandwidth = hardware.device.memory_bandwidth_gb_per_s
                assert bandwidth and model.params_b
                tpot = 2.2 * model.params_b / bandwidth * (1 + load / 64)
                work = CHAT.model_copy(update={"concurrency": load})
                found.append(
                    Record(
                        setting=Setting(model=model, workload=work, hardware=hardware),
                        method=Method(engine="vllm"),
                        outcome=Measured(metrics=Metrics(tpot_s=tpot, ttft_s=20 * tpot)),
                        provenance=Provenance(source="made-up"),
                    )
                )
    return found


def trained(tmp_path: Path, name: str, records: list[Record]) -> Path:
    """A predictor that the command line trained on these records."""
    store, output = tmp_path / f"{name}.sqlite", tmp_path / f"{name}.metainf"
    with open_store(store) as opened:
        opened.add(records)
    ran = CliRunner().invoke(app, ["train", "--store", str(store), "--output", str(output), "--json"])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert json.loads(ran.stdout)["records"] == len({record.id for record in records})
    return output


def answer(predictor: Path) -> list[dict]:  # type: ignore[type-arg]
    ran = CliRunner().invoke(app, [*ASKED.split(), "--predictor", str(predictor)])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return list(json.loads(ran.stdout)["ranked"])


def rates(predictor: TrainedPredictor, records: list[Record]) -> np.ndarray:  # type: ignore[type-arg]
    """Log tokens per second that are predicted of runs."""
    found = []
    for one in records:
        pair = (one.setting.hardware, one.method)
        said = predictor.forecast(one.setting.model, one.setting.workload, [pair])
        found.append(float(said.log_median["output_tokens_per_s"][0]))
    return np.array(found)


def test_before_no_engine_of_this_machine_can_be_asked_about() -> None:
    ran = CliRunner().invoke(app, ASKED.split())
    assert "no run of openvino is in this predictor's history" in str(ran.exception)


def test_a_store_of_own_runs_alone_corrects_the_shipped_predictor(tmp_path: Path) -> None:
    path = trained(tmp_path, "own", STUDY)
    found = answer(path)
    assert {each["method"]["engine"] for each in found} <= {"openvino", "llama.cpp"}
    assert found[0]["prediction"]["reasons"][0].startswith("corrected by ")
    near = max(
        record.metrics.output_tokens_per_s or 0.0
        for record in STUDY
        if record.metrics and record.setting.workload.concurrency == 16
    )
    told = found[0]["prediction"]["metrics"]["output_tokens_per_s"]
    assert told["low"] < near and near / 5 < told["value"] < 2 * near
    before, after = load_predictor(None), load_predictor(path)
    for model in ("Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B"):
        one, other = (
            each.forecast(catalog.find_model(model), CHAT, [(H100, Method(engine="vllm"))])
            for each in (before, after)
        )
        assert one.log_median == other.log_median and one.log_scale == other.log_scale


def test_runs_of_other_workloads_make_the_numbers_of_a_new_one_right(tmp_path: Path) -> None:
    name = "copy_edit"
    known = [record for record in STUDY if record.setting.workload.name != name]
    new = [r for r in STUDY if r.setting.workload.name == name and r.metrics is not None][::3]
    after = load_predictor(trained(tmp_path, "rest", known))
    true = np.log([record.metrics.output_tokens_per_s for record in new])  # type: ignore[union-attr]
    error, before = (np.median(np.abs(rates(each, new) - true)) for each in (after, load_predictor(None)))
    assert error < 0.6 * before


def test_own_runs_leave_what_the_history_taught_alone(tmp_path: Path) -> None:
    plain, both = (
        trained(tmp_path, name, records)
        for name, records in (("plain", history()), ("both", [*history(), *STUDY[::4]]))
    )
    one, other = artifact.read(plain), artifact.read(both)
    assert one.state["learners"] == other.state["learners"] and one.state["known"] == other.state["known"]
    assert one.trees == other.trees
    assert "own" not in one.state and other.manifest["own_runs"] == len(STUDY[::4])
    assert load_predictor(both).ran(STUDY[0].setting.hardware.device.name, STUDY[0].method.engine)
    assert answer(both)


def test_too_little_without_own_runs_is_still_refused(tmp_path: Path) -> None:
    store = tmp_path / "few.sqlite"
    with open_store(store) as opened:
        opened.add(history()[:5])
    ran = CliRunner().invoke(app, ["train", "--store", str(store), "--output", str(tmp_path / "x.metainf")])
    assert isinstance(ran.exception, BadInput) and "import more runs" in str(ran.exception)


def test_own_runs_come_back_as_they_were_kept() -> None:
    failed = STUDY[0].model_copy(update={"outcome": Failed(reason="crashed")})
    runs = own_history.merged([*STUDY, failed])
    again = own_history.load(json.loads(json.dumps(own_history.dump(runs))))
    assert len(again) == len(runs) <= len(STUDY)
    for one, other in zip(runs, again, strict=True):
        assert one.setting == other.setting and one.method == other.method
        assert one.logs == pytest.approx(other.logs, abs=1e-5)
    assert min(run.worked for run in again) < 1


def test_a_broken_part_is_told() -> None:
    found = artifact.read()
    with pytest.raises((BadInput, ArtifactError), match="train it again"):
        TrainedPredictor(Artifact(found.manifest, found.state | {"own": {"runs": [[1]]}}, found.trees))
