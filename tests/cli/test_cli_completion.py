"""Shells complete names: asked as bash asks, through the variables of its completion script."""

import subprocess
import sys

import pytest

START = "import sys; sys.argv = ['metainf']; from metainf.cli import main; main()"


def completed(line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("_METAINF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    ran = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=False)
    assert not ran.stderr, ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("metainf sel", {"select"}),
        ("metainf hardware ", {"list", "show", "detect"}),
        ("metainf select --model Qwen/Qwen3-32", {"Qwen/Qwen3-32B"}),
        ("metainf select -m llama-3.1-8b-i", {"llama-3.1-8b-instruct"}),
        ("metainf select -H mi35", {"mi350x", "mi355x"}),
        ("metainf select -H 1-4xL4", {"1-4xL4", "1-4xL40"}),
        ("metainf select -H h100,2xmi35", {"h100,2xmi350x", "h100,2xmi355x"}),
        ("metainf select --workload az", {"azure-code", "azure-chat"}),
        ("metainf select --engine s", {"sglang"}),
        ("metainf select --aim lat", {"latency"}),
        ("metainf size --percentile p9", {"p90", "p95", "p99"}),
        ("metainf models show Qwen/Qwen3-32", {"Qwen/Qwen3-32B"}),
        ("metainf models list --modality im", {"image"}),
        ("metainf hardware show tpu-v5", {"tpu-v5e", "tpu-v5p"}),
        ("metainf workloads show sh", {"sharegpt"}),
        ("metainf methods show l", {"llama.cpp"}),
        ("metainf methods show vllm Qwen/Qwen3-32", {"Qwen/Qwen3-32B"}),
        ("metainf import --format vllm-s", {"vllm-serve"}),
        ("metainf describe Qwen/Qwen3-32", {"Qwen/Qwen3-32B"}),
    ],
)
def test_bash(line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = completed(line, monkeypatch)
    assert expected <= {word.lower() if word.lower() in expected else word for word in found}
    last = line.split(" ")[-1].lower()
    assert all(word.lower().startswith(last) for word in found)


def test_nothing_completes_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("metainf select --model no-such-model", monkeypatch) == []
