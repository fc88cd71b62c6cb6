"""Every door refuses nonsense in words: exit code 2 for a question that cannot be understood, 1 for one
that has no answer, never a traceback, never a silent default."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metainf.cli import main
from metainf.cli.app import app
from metainf.domain import BadInput, MetaInfError

RESULT = Path(__file__).resolve().parents[1] / "importers" / "fixtures" / "vllm_serve.json"
CHAT = "select -m Llama-3.1-8B-Instruct -w sharegpt -c 32"
LLAMA = '"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 9'
DEVICE = 'name = "mine"\nmemory_gib = 48\n'

FILES = {
    "empty.csv": "",
    "header.csv": "input_tokens,output_tokens\n",
    "negative.csv": "input_tokens,output_tokens\n-5,10\n",
    "nan.csv": "input_tokens,output_tokens\nnan,10\n",
    "huge.csv": "input_tokens,output_tokens\n1e15,10\n",
    "prompts.txt": "How far is the moon?",
    "list.json": "[]",
    "foreign.json": '{"a": 1}',
    "broken.json": '{"a": 1',
    "cut.parquet": "PAR1 and no more",
    "cut.gguf": "GGUF\x03\x00\x00\x00\x05\x00",
    "other.gguf": "nothing of the kind",
    "bare/readme.txt": "a folder without a configuration",
    "half/config.json": '{"num_hidden_layers": 3',
    "empty/config.json": "{}",
    "text/config.json": f'{{{LLAMA}, "hidden_size": "512"}}',
    "nan/config.json": f'{{{LLAMA}, "hidden_size": NaN}}',
    "negative/config.json": f'{{{LLAMA}, "hidden_size": -512}}',
    "vast/config.json": f'{{{LLAMA}, "hidden_size": 1e300}}',
    "bert/config.json": '{"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 8}',
    "lacking.toml": DEVICE,
    "negative.toml": DEVICE + "memory_bandwidth_gb_per_s = -1\n",
    "nan.toml": DEVICE + "memory_bandwidth_gb_per_s = nan\n",
    "text.toml": DEVICE + 'memory_bandwidth_gb_per_s = "900 GB/s"\n',
    "unknown.toml": DEVICE + "memory_bandwidth_gb_per_s = 900\nspeed = 3\n",
    "broken.toml": "not toml [",
    "good.toml": DEVICE + "memory_bandwidth_gb_per_s = 900\nbf16_tflops = 200\n",
    "garbage.sqlite": "not a database",
    "predictor.zip": "not a zip",
}

UNDERSTOOD = [
    (f"{CHAT} -H L4 --ttft 5kg", "a duration such as 500ms"),
    (f"{CHAT} -H L4 --ttft -3s", "a duration such as 500ms"),
    (f"{CHAT} -H L4 --tpot nan", "a duration such as 500ms"),
    (f"{CHAT} -H L4 --e2e 0", "a duration such as 500ms"),
    (f"{CHAT} -H L4 --max-usd-per-hour nan", "max_usd_per_hour: expected a finite number"),
    (f"{CHAT} -H L4 --max-usd-per-hour inf", "max_usd_per_hour: expected a finite number"),
    (f"{CHAT} -H L4 --max-usd-per-hour -1", "max_usd_per_hour"),
    (f"{CHAT} -H L4 --max-usd-per-hour 0", "max_usd_per_hour"),
    (f"{CHAT} -H L4 --quality 98", "min_quality_recovery"),
    (f"{CHAT} -H L4 --confidence 2", "confidence"),
    (f"{CHAT} -H L4 --aim latncy", "did you mean latency"),
    (f"{CHAT} -H L4 --engine vlm", "did you mean vllm"),
    (f"{CHAT} -H 0xL4", "counts must rise from 1"),
    (f"{CHAT} -H 1-0xL4", "counts must rise from 1"),
    (f"{CHAT} -H 99999xL4", "counts must rise from 1"),
    (f"{CHAT} -H 1-4096xL4", "at most 64 counts"),
    (f"{CHAT} -H L4@0", "dollars per device and hour"),
    (f"{CHAT} -H L4@1 -H L4@2", "expected one price"),
    (f"{CHAT} -H H1000", "did you mean H100"),
    (f"{CHAT} -H ,", "cannot read hardware"),
    (f"{CHAT} -H lacking.toml", "missing memory_bandwidth_gb_per_s"),
    (f"{CHAT} -H negative.toml", "memory_bandwidth_gb_per_s"),
    (f"{CHAT} -H nan.toml", "memory_bandwidth_gb_per_s: expected a finite number"),
    (f"{CHAT} -H text.toml", "900 GB/s"),
    (f"{CHAT} -H unknown.toml", "unknown speed"),
    (f"{CHAT} -H broken.toml", "is not TOML"),
    (f"{CHAT} -H absent.toml", "No such file"),
    (f"{CHAT} -H L4 --plot picture.docx", ".png"),
    (f"{CHAT} -H L4 --plot absent/picture.png", "folder"),
    (f"{CHAT} -H L4 -c nan", "concurrency: expected a finite number"),
    (f"{CHAT} -H L4 -c -1", "concurrency"),
    (f"{CHAT} -H L4 -c 0.5", "between 1 and 65,536 requests in flight"),
    (f"{CHAT} -H L4 -c 1e12", "between 1 and 65,536 requests in flight"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w prompts.txt", "prompts.txt tells no input tokens"),
    (f"{CHAT} -H L4 --rate 0", "a positive number"),
    (f"{CHAT} -H L4 --input-tokens -5", "input_tokens"),
    (f"{CHAT} -H L4 --input-tokens 1e15", "between 1 and 10,000,000 input tokens"),
    (f"{CHAT} -H L4 --output-tokens 0", "between 1 and 10,000,000 output tokens"),
    ("select -m Llama-3.1-8B-Instruct -H L4", "--workload"),
    ("select -m Llama-3.1-8B-Instruct -H L4 --input-tokens 9", "--output-tokens"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w sharegtp", "did you mean sharegpt"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w empty.csv", "an empty one"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w header.csv", "an empty trace"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w negative.csv", "row 0: input tokens"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w nan.csv", "row 0: input tokens"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w huge.csv", "between 1 and 10,000,000 input tokens"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w foreign.json", "input tokens or a prompt"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w broken.json", "broken off"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w absent.csv", "No such file"),
    ("select -m Llama-3.1-8B-Instruct -H L4 -w bare", "directory"),
    ("select -m Llama-3.1-9B-Instrukt -H L4 -w sharegpt", "did you mean"),
    ("select -m org/no-such-thing -H L4 -w sharegpt", "offline"),
    ("models show bare", "no config.json"),
    ("models show half", "is not JSON"),
    ("models show empty", "lacks num_layers"),
    ("models show text", "hidden_size is '512'"),
    ("models show nan", "hidden_size is nan"),
    ("models show negative", "hidden_size is -512"),
    ("models show vast", "hidden_size is 1e+300"),
    ("models show cut.gguf", "truncated"),
    ("models show other.gguf", "expected it to begin with GGUF"),
    ("models show absent.gguf", "does not exist"),
    ("models list --modality imgae", "did you mean image"),
    ("models list --family Qwen9", "did you mean Qwen"),
    ("models list --engine vlm", "did you mean vllm"),
    ("hardware list --vendor nvidea", "did you mean NVIDIA"),
    ("hardware list --kind gpus", "did you mean gpu"),
    ("hardware show mi300y", "did you mean"),
    ("workloads show azure", "did you mean azure-"),
    ("methods list --engine vlm", "did you mean vllm"),
    ("methods show vlm Llama-3.1-8B-Instruct L4", "did you mean vllm"),
    ("size -m Llama-3.1-8B-Instruct -w sharegpt -H L4 --rate abc", "a positive number"),
    ("size -m Llama-3.1-8B-Instruct -w sharegpt -H L4 --rate 5 --percentile p42", "p50, p90, p95 or p99"),
    ("import absent.json", "No such file"),
    ("import list.json", "expected a result file"),
    ("import foreign.json", "expected a result file"),
    ("import broken.json", "broken off"),
    ("import cut.parquet", "expected a Parquet file"),
    ("import bare", "directory"),
    ("import foreign.json --format vllm-serve", "vllm bench serve"),
    ("import foreign.json --format vlm-serve", "did you mean vllm-serve"),
    (f"import {RESULT} --engine vlm", "did you mean vllm"),
    (f"import {RESULT} --hardware 0xL4", "counts must rise from 1"),
    (f"import {RESULT} --model no-such-model", "unknown model"),
    (f"import {RESULT} --store mysql://x/y", "sqlite:///"),
    ("records merge absent.parquet", "found nothing"),
    ("records merge cut.parquet", "not a whole Parquet file"),
    ("describe no-such-model", "unknown model"),
    ("describe Llama-3.1-8B-Instruct --hardware 0xL4", "counts must rise from 1"),
    (f"{CHAT} -H L4 --export composer", "did you mean compose"),
    ("keys add grafana --scope reed", "did you mean read"),
    ("keys revoke nobody", "unknown key"),
    ("serve --host 0.0.0.0", "metainf keys add NAME"),
    ("serve --host 1.2.3.4.5", "metainf keys add NAME"),
    ("serve --rate often", "a rate such as 200/second"),
    ("serve --tls-key good.toml", "expected both"),
    ("serve --tls-key good.toml --tls-certificate absent.pem", "PEM file at absent.pem"),
    ("swarm serve --queue nats://a --tls-key good.toml", "expected both"),
    (
        "swarm serve --queue nats://a --tls-key good.toml --tls-certificate absent.pem",
        "PEM file at absent.pem",
    ),
    ("swarm serve --join nats://a --tls-key good.toml --tls-certificate good.toml", "cannot be read"),
]
"""Command -> what the sentence holds; exit code 2."""

UNANSWERED = [
    (f"{CHAT} -H L4 --max-usd-per-hour 0.01", "max_usd_per_hour binds; without it"),
    (f"{CHAT} -H L4 --ttft 1us", "max_ttft_s binds; without it"),
    (f"{CHAT} -H L4 --ttft 1us --tpot 1us --max-usd-per-hour 0.01", "Without any limit the cheapest is"),
    (f"{CHAT} -H mi300a", "mi300a@DOLLARS"),
    (f"{CHAT} -H rtx-3060-laptop-12", "memory bandwidth of rtx-3060-laptop-12 is not known"),
    (f"{CHAT} -H rtx-3060-laptop-12", "ask about rtx-3060-12"),
    (f"{CHAT} -H L4 -c 60000 --ttft 1s", "max_ttft_s binds; without"),
    ("methods show diffusers Qwen/Qwen3-8B L4", "vllm, sglang"),
    ("methods show vllm sdxl L4", "diffusers can"),
    (f"{CHAT} -H L4 --predictor absent", "expected a predictor file"),
    (f"{CHAT} -H L4 --predictor predictor.zip", "expected a predictor made by metainf train"),
    (f"{CHAT} -H L4 --engine diffusers", "no engine proposes a method"),
    ("select -m bert -w sharegpt -H L4", "gives embeddings"),
    ("size -m Llama-3.1-8B-Instruct -w sharegpt -H L4 --rate 5 --ttft 1us", "max_ttft_s binds; without"),
    (
        "size -m Llama-3.1-8B-Instruct -w sharegpt -H L4 --rate 5 --max-usd-per-hour 0.1",
        "max_usd_per_hour binds; without",
    ),
    ("size -m Llama-3.1-8B-Instruct -w sharegpt -H L4 --rate 1e9", "64 replicas"),
    ("importance --predictor absent", "expected a predictor file"),
    ("records list --store absent.sqlite", "no store at absent.sqlite"),
    ("records list --store garbage.sqlite", "expected a SQLite file made by MetaInf"),
    ("records export out.jsonl --store absent.sqlite", "no store at absent.sqlite"),
    ("train --store absent.sqlite", "no store at absent.sqlite"),
    (f"import {RESULT} --store garbage.sqlite", "expected a SQLite file made by MetaInf"),
    (f"import {RESULT} --store bare", "found a folder"),
    (f"import {RESULT} --store good.toml/records.sqlite", "good.toml"),
    (f"{CHAT} -H L4 --engine sglang --export ray", "Ray Serve LLM runs vllm"),
    (f"{CHAT} -H MI300X --engine sglang --export compose", "name one with --image"),
    ("serve --store garbage.sqlite", "expected a SQLite file made by MetaInf"),
    ("serve --predictor absent", "expected a predictor file"),
]
"""Command -> what the sentence holds; exit code 1."""

WRONG_USE = [
    "bogus",
    "select",
    "select -m x",
    f"{CHAT} -H L4 --top 0",
    f"{CHAT} -H L4 -c many",
    "import",
    "models",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAINF_STORE", str(tmp_path / "records.sqlite"))
    return tmp_path


def refused(command: str) -> MetaInfError:
    ran = CliRunner().invoke(app, command.split())
    assert isinstance(ran.exception, MetaInfError), (ran.exception, ran.output)
    assert ran.output == "", "nothing is answered beside the refusal"
    return ran.exception


@pytest.mark.parametrize(("command", "words"), UNDERSTOOD)
def test_what_cannot_be_understood_is_refused(command: str, words: str, folder: Path) -> None:
    error = refused(command)
    assert isinstance(error, BadInput) and words in str(error), str(error)


@pytest.mark.parametrize(("command", "words"), UNANSWERED)
def test_what_has_no_answer_is_said(command: str, words: str, folder: Path) -> None:
    error = refused(command)
    assert not isinstance(error, BadInput) and words in str(error), str(error)


@pytest.mark.parametrize("command", WRONG_USE)
def test_wrong_use_shows_the_usage(command: str, folder: Path) -> None:
    ran = CliRunner().invoke(app, command.split())
    assert ran.exit_code == 2 and "Usage:" in ran.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["models", "show", ""], 2),
        (["models", "show", " "], 2),
        (["hardware", "show", ""], 2),
        (["select", "-m", "Qwen3-8B", "-w", "", "-H", "L4"], 2),
        (["select", "-m", "Qwen3-8B", "-w", "sharegpt", "-H", ""], 2),
        (["select", "-m", "Qwen3-8B", "-w", "sharegpt", "-H", "L4", "--ttft", ""], 2),
        (["import", str(RESULT), "--engine", ""], 2),
        (["records", "list", "--store", "absent.sqlite"], 1),
        (["train", "--store", "absent.sqlite"], 1),
    ],
)
def test_exit_codes(
    arguments: list[str],
    code: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["metainf", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == code and said.out == ""
    assert said.err.startswith("metainf: ") and said.err.count("\n") == 1
    assert not (folder / "absent.sqlite").exists()


def test_hardware_named_twice_counts_once(folder: Path) -> None:
    from metainf.api.catalogue import hardware_of

    assert len(hardware_of(["L4", "1xL4", "l4"])) == 1
    ((_, usd),) = hardware_of(["L4", "L4@2"])
    assert usd == 2.0


def test_a_device_of_a_file_is_ranked(folder: Path) -> None:
    ran = CliRunner().invoke(app, f"{CHAT} -H 2xgood.toml@1.5 --top 1".split())
    assert ran.exit_code == 0 and "2× mine" in ran.output and "3" in ran.output


def test_the_module_is_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "metainf", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip()
