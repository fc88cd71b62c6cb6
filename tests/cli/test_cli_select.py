"""The main job, end to end with the predictor that ships."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metainf.cli.app import app
from metainf.domain import BadInput, NoFeasible, Selection, UnknownName

CHAT = ("--model", "Llama-3.1-8B-Instruct", "--workload", "sharegpt", "--concurrency", "32")
MACHINES = ("--hardware", "1-4xL4", "--hardware", "A100-80GB", "--hardware", "H100")


def answer(*arguments: str) -> Any:
    ran = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    return json.loads(ran.output)


def refused(error: type[Exception], *arguments: str) -> str:
    ran = CliRunner().invoke(app, list(arguments))
    assert isinstance(ran.exception, error), ran.output
    return str(ran.exception)


def test_a_selection_respects_its_limits_and_explains_itself() -> None:
    found = Selection.of(answer("select", *CHAT, *MACHINES, "--max-usd-per-hour", "4", "--ttft", "500ms"))
    assert found.ranked
    scores = [candidate.score for candidate in found.ranked]
    assert scores == sorted(scores, reverse=True)
    for candidate in found.ranked:
        assert candidate.usd_per_hour is not None and candidate.usd_per_hour <= 4
        assert candidate.p_feasible >= 0.5 and candidate.command
        for estimate in candidate.prediction.metrics.values():
            assert 0 < estimate.low <= estimate.value <= estimate.high
        assert candidate.prediction.reasons and candidate.prediction.nearest
    assert "slo" in {excluded.limit for excluded in found.excluded}


def test_speculation_that_was_never_measured_says_so() -> None:
    found = Selection.of(answer("select", *CHAT, "--hardware", "H100", "--top", "20"))
    drafted = [c for c in found.ranked if any(t.kind == "speculative" for t in c.method.techniques)]
    plain = [c for c in found.ranked if c not in drafted]
    assert drafted and plain
    for candidate in drafted:
        assert any("published acceptance" in reason for reason in candidate.prediction.reasons)
        tpot = candidate.prediction.metrics["tpot_s"]
        assert tpot.high / tpot.low > 1.5


def test_a_longer_wait_is_predicted_under_more_load() -> None:
    def best(load: str) -> float:
        machine = ("--hardware", "H100", "--engine", "vllm", "--top", "1", "--concurrency", load)
        found = answer("select", "-m", "Qwen/Qwen3-8B", "-w", "azure-chat", *machine)
        return float(found["ranked"][0]["prediction"]["metrics"]["tpot_s"]["value"])

    assert best("128") > best("4")


def test_an_impossible_budget_says_what_would_do() -> None:
    told = refused(NoFeasible, "select", *CHAT, *MACHINES, "--max-usd-per-hour", "0.01")
    assert "max_usd_per_hour" in told and "$" in told


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (UnknownName, ("--model", "Llama-3.1-9B-Instrukt", "--workload", "sharegpt", *MACHINES)),
        (UnknownName, ("--model", "Llama-3.1-8B-Instruct", "--workload", "sharegtp", *MACHINES)),
        (BadInput, (*CHAT, "--hardware", "L4", "--ttft", "soon")),
        (BadInput, ("--model", "Llama-3.1-8B-Instruct", "--hardware", "L4")),
        (BadInput, (*CHAT, "--hardware", "L4", "--input-tokens", "-3")),
        (BadInput, (*CHAT, "--hardware", "L4", "--input-tokens", "1e12")),
        (BadInput, ("--model", "sdxl", "--workload", "sharegpt", "--hardware", "L4")),
    ],
)
def test_bad_questions_are_refused(error: type[Exception], arguments: tuple[str, ...]) -> None:
    refused(error, "select", *arguments)


def test_sizing_answers_with_enough_capacity() -> None:
    limits = ("--ttft", "2s", "--tpot", "60ms", "--percentile", "p90")
    found = answer(
        "size", "-m", "Llama-3.1-8B-Instruct", "-w", "azure-chat", "--rate", "5", *MACHINES, *limits
    )
    assert found
    for sized in found:
        assert sized["capacity_requests_per_s"] >= 5 * 0.99 or sized["replicas"] > 1
        assert sized["ttft_s"] <= 2 and sized["tpot_s"] <= 0.06
    costs = [sized["usd_per_hour"] for sized in found]
    assert costs == sorted(costs)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "front.png"
    answer("select", *CHAT, "--hardware", "H100", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_importance_shares_add_up() -> None:
    rows = answer("importance")
    for target in {row["target"] for row in rows}:
        shares = [row["share"] for row in rows if row["target"] == target]
        assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)


def test_an_error_is_one_sentence_with_exit_code_2() -> None:
    command = [
        sys.executable,
        "-c",
        "from metainf.cli import main; main()",
        "select",
        "-m",
        "nonsense-model",
        "-H",
        "L4",
    ]
    ran = subprocess.run([*command, "-w", "sharegpt"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("metainf: unknown model 'nonsense-model'")


def test_a_choice_of_how_to_draw_comes_with_its_program() -> None:
    ran = CliRunner().invoke(app, ["select", "--model", "sdxl", "--hardware", "rtx-4090", "--steps", "30"])
    assert ran.exit_code == 0, ran.output
    head, _, program = ran.stdout.partition("then python draw.py < prompts.txt")
    assert "save as draw.py" in head
    text = program.partition("\nWhy")[0].partition("\nMind")[0]
    compile(text, "draw.py", "exec")
    assert "DiffusionPipeline.from_pretrained('stabilityai/stable-diffusion-xl-base-1.0'" in text
    assert "num_inference_steps=30" in text
