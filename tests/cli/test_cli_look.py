"""How answers look: narrow terminals, pipes, and progress only where a person is looking."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metainf.cli.app import app
from metainf.cli.progress import bar, spinner
from metainf.cli.show import cell, table

CHAT = "select -m Llama-3.1-8B-Instruct -w sharegpt -H L4 -H H100 --top 2"


def said(command: str, width: int) -> str:
    ran = CliRunner().invoke(app, command.split(), env={"COLUMNS": str(width)}, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return str(ran.output)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_an_answer_fits_the_terminal_and_holds_the_same_facts(width: int) -> None:
    text = said(f"{CHAT} -c 32 --ttft 500ms", width)
    ranking = text.partition("Run the first:")[0]
    assert max(map(len, ranking.splitlines())) <= max(width, 100)
    words = " ".join(ranking.split())
    for fact in (
        "sharegpt, 857 tokens in, 653 tokens out, 32 requests in flight",
        "TTFT 0.5 s",
        "h100-sxm",
        "$/h",
    ):
        assert fact in words
    for title in ("Run the first:", "Why", "Nearest measured", "Left out"):
        assert title in text


def test_a_load_that_was_not_stated_is_said() -> None:
    assert "one request in flight, as no load was stated" in said(CHAT, 200)
    assert "5 requests/s arriving" in said(f"{CHAT} --rate 5", 200)


@pytest.mark.parametrize(
    "command",
    ["models list qwen3", "hardware list h100", "workloads list", "methods list",
     "methods show vllm Qwen/Qwen3-8B L4",
     "size -m Llama-3.1-8B-Instruct -w azure-chat --rate 5 -H L4 --top 2"],
)  # fmt: skip
def test_tables_fit_80_columns(command: str) -> None:
    lines = said(command, 80).splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 80


def test_a_long_column_moves_below_only_where_it_must(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ("l4", "a long method " * 6, *range(100000, 100006))
    head = ("hardware", "method", *("a rather long title" for _ in range(6)))
    for width, stacked in ((80, True), (200, False)):
        monkeypatch.setenv("COLUMNS", str(width))
        table(head, [row], below="method")
        assert ("a rather long title 100000" in " ".join(capsys.readouterr().out.split())) is stacked


def test_square_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table(("a",), [("[bold]x[/bold]",)])
    assert "[bold]x[/bold]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (1234.5, "1,234"), (0.12345, "0.123"), (3, "3"), ("a", "a")]
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


def test_filters_narrow_lists() -> None:
    def names(command: str) -> list[str]:
        return [row["name"] for row in json.loads(said(f"{command} --json", 80))]

    every = names("models list")
    assert set(names("models list --family QWEN3")) < set(every)
    assert "stabilityai/stable-diffusion-xl-base-1.0" in names("models list --engine diffusers")
    assert "stabilityai/stable-diffusion-xl-base-1.0" not in names("models list --engine vllm")
    assert names("hardware list --vendor google --kind tpu") == [
        name for name in names("hardware list") if name.startswith("tpu")
    ]
    assert names("workloads list azure") == ["azure-code", "azure-chat"]
    offered = json.loads(said("methods list --engine diffusers --json", 80))
    assert "fused_qkv" in offered and "prefix_cache" not in offered
    assert all("diffusers" in row["engines"] for row in offered.values())


def test_workloads_show_tells_the_source() -> None:
    text = said("workloads show azure-chat", 80)
    assert "input_tokens" in text and "Azure" in text
    assert json.loads(said("workloads show azure-chat --json", 80))["name"] == "azure-chat"


def test_a_trace_file_is_a_workload(tmp_path: Path) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text("input_tokens,output_tokens\n10,20\n30,40\n")
    shown = json.loads(said(f"workloads show {trace} --json", 80))
    assert (shown["input_tokens"]["mean"], shown["output_tokens"]["mean"]) == (20, 30)


def test_progress_is_silent_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bar("rows", 3) as tell, spinner("work") as say:
        tell(1)
        say("more")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with bar("rows", 3, quiet=True) as tell, spinner("work", quiet=True) as say:
        tell(1)
        say("more")
    assert capsys.readouterr() == ("", "")


def test_progress_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with bar("rows", 3) as tell:
        tell(2)
    assert "rows" in sys.stderr.getvalue() and "2/3" in sys.stderr.getvalue()


def test_no_color_and_pipes_carry_no_escapes() -> None:
    command = [sys.executable, "-m", "metainf", "models", "list", "qwen3"]
    piped = subprocess.run(command, capture_output=True, check=True)
    assert b"\x1b" not in piped.stdout and piped.stderr == b""
    parent, child = pty.openpty()
    ran = subprocess.run(command, stdout=child, env={**os.environ, "NO_COLOR": "1"}, check=True)
    os.close(child)
    shown = os.read(parent, 1 << 16)
    os.close(parent)
    assert ran.returncode == 0 and b"\x1b[3" not in shown, "no colour"
