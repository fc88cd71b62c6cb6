"""metainf study: a small one in real engines, stopped and gone on with, and its page."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines_here import needs_engines
from metainf.cli.app import app

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
pytest.importorskip("psutil", reason="the extra measure is not installed")
SMALL = (
    "--engine openvino --engine llama.cpp -w short_chat -b 4 --requests 4 "
    "--method baseline --method continuous"
)


def run(*words: str) -> str:
    ran = CliRunner().invoke(app, ["study", *words])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return ran.output


@needs_engines
def test_a_small_study_in_real_engines(tmp_path: Path) -> None:
    store = str(tmp_path / "records.sqlite")
    planned = json.loads(run("run", *SMALL.split(), "--store", store, "--dry-run", "--json"))
    assert [(row["engine"], row["runs"]) for row in planned] == [("openvino", 2), ("llama.cpp", 2)]
    made = json.loads(run("run", *SMALL.split(), "--store", store, "--json"))
    assert made == {"made": 4, "failed": 0, "resumed": 0, "unmade": 0}
    again = json.loads(run("run", *SMALL.split(), "--store", store, "--json"))
    assert (again["made"], again["resumed"]) == (0, 4)
    page, plots = tmp_path / "study.md", tmp_path / "figures"
    rows = json.loads(run("show", "--store", store, "--report", str(page), "--plots", str(plots), "--json"))
    assert [row["engine"] for row in rows] == ["llama.cpp", "openvino"]
    assert all(row["output_tokens_per_s"] > 0 for row in rows)
    text = page.read_text(encoding="utf-8")
    assert "short_chat" in text and len(list(plots.glob("*.svg"))) == 2


@needs_engines
def test_no_run_begins_that_would_end_too_late(tmp_path: Path) -> None:
    told = run("run", *SMALL.split(), "--store", str(tmp_path / "r.sqlite"), "--time-limit", "1s", "--json")
    assert json.loads(told) == {"made": 0, "failed": 0, "resumed": 0, "unmade": 4}


def test_the_shipped_study_is_shown() -> None:
    rows = json.loads(run("show", "--json"))
    assert {row["engine"].partition(" on ")[0] for row in rows} >= {"openvino", "llama.cpp", "vllm"}
    assert {row["in_flight"] for row in rows} >= {1, 16}
    assert all(row["over_baseline"] >= 1 for row in rows if row["best"] is not None)
    assert "× baseline" in run("show")


def test_a_store_without_a_study_says_so(tmp_path: Path) -> None:
    from metainf.store import open_store

    with open_store(tmp_path / "empty.sqlite"):
        pass
    ran = CliRunner().invoke(app, ["study", "show", "--store", str(tmp_path / "empty.sqlite")])
    assert ran.exit_code != 0 and "study" in str(ran.exception)
