"""metainf models | hardware | methods."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from metainf import __version__, api
from metainf.cli.app import app
from metainf.domain import Device, Method, Model

START = "from metainf.cli import main; main()"


def said(*arguments: str) -> str:
    ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return str(ran.output)


def data(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


def refused(*arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", START, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith("metainf: ") and "Traceback" not in ran.stderr
    return ran.stderr


def test_version() -> None:
    assert said("--version").strip() == __version__


def test_models_list() -> None:
    rows = [Model.of(row) for row in data("models", "list")]
    assert rows == api.models() and len(rows) > 20
    images = data("models", "list", "--modality", "image")
    assert images and {row["modality"] for row in images} == {"image"}
    assert all("qwen3" in row["name"].lower() for row in data("models", "list", "QWEN3"))
    assert "Qwen/Qwen3-32B" in said("models", "list", "qwen3")
    assert data("models", "list", "no such model") == []
    assert "nothing to show" in said("models", "list", "no such model")


def test_models_show() -> None:
    model = Model.of(data("models", "show", "qwen3-32b"))
    assert model == api.model("Qwen/Qwen3-32B") and model.params_b
    assert re.search(r"^name +Qwen/Qwen3-32B$", said("models", "show", "qwen3-32b"), re.MULTILINE)


def test_hardware_list() -> None:
    rows = [Device.of(row) for row in data("hardware", "list")]
    assert rows == api.devices() and len(rows) > 10
    assert {row["vendor"] for row in data("hardware", "list", "nvidia")} == {"NVIDIA"}
    assert "l4" in said("hardware", "list", "l4").lower()


def test_hardware_show() -> None:
    device = Device.of(data("hardware", "show", "mi300x"))
    assert device.memory_gib == 192 and device == api.device("MI300X")
    assert "memory_gib" in said("hardware", "show", "mi300x")


def test_hardware_detect_finds_a_cpu() -> None:
    kinds = [row["device"].get("kind") for row in data("hardware", "detect")]
    assert "cpu" in kinds


def test_methods_list() -> None:
    rows = data("methods", "list")
    assert {"speculative", "weight_quantization", "prefix_cache"} <= set(rows)
    assert all(rows.values()) and "speculative" in said("methods", "list")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama.cpp"])
def test_methods_show(engine: str) -> None:
    rows = [Method.of(row) for row in data("methods", "show", engine, "Llama-3.1-8B-Instruct", "2xL4")]
    assert rows and {method.engine for method in rows} == {engine}
    assert len({method.id for method in rows}) == len(rows)
    pairs = api.methods(engine, "Llama-3.1-8B-Instruct", "2xL4")
    assert all(command.strip() for _, command in pairs)
    assert engine in said("methods", "show", engine, "Llama-3.1-8B-Instruct", "2xL4")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("models", "show", "Qwen3-32"), "Qwen/Qwen3-32B"),
        (("hardware", "show", "mi300y"), "mi300x"),
        (("methods", "show", "vlm", "Llama-3.1-8B-Instruct", "2xL4"), "vllm"),
    ],
)
def test_unknown_names_end_with_two_and_near_misses(arguments: tuple[str, ...], near: str) -> None:
    text = refused(*arguments)
    assert "unknown" in text and "did you mean" in text and near.lower() in text.lower()


@pytest.mark.parametrize(
    "arguments", [("hardware", "show", "mi300y"), ("methods", "show", "vlm", "Llama-3.1-8B-Instruct", "2xL4")]
)
def test_the_command_that_an_error_names_exists(arguments: tuple[str, ...]) -> None:
    named = re.search(r"\(metainf (.+?) shows all\)", refused(*arguments))
    assert named is None or said(*named[1].split())


def test_nonsense_hardware_is_refused() -> None:
    text = refused("methods", "show", "vllm", "Llama-3.1-8B-Instruct", "0xL4")
    assert "'0xL4'" in text and "counts must rise from 1" in text
