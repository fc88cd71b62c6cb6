"""metainf measure: the plan, a server by URL, what is refused, and llama.cpp itself."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines_here import needs_llama
from metainf.cli.app import app
from metainf.cli.measuring import RECIPES, WORKLOADS
from metainf.domain import BadInput, MetaInfError
from metainf.measure.study_traffic import STUDY
from metainf.store import open_store

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
psutil = pytest.importorskip("psutil", reason="the extra measure is not installed")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAINF_STORE", str(tmp_path / "records.sqlite"))
    return tmp_path / "records.sqlite"


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The fake server inside a thread; it behaves as the test's parameter says."""
    from metainf.testing.model_server import Behaviour, ModelServer

    behaviour = Behaviour(**{"itl_s": 0.002} | getattr(request, "param", {}))
    server, loop, ready = ModelServer(behaviour), asyncio.new_event_loop(), threading.Event()

    def serve() -> None:
        loop.run_until_complete(server.start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(server.stop())

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    yield server.base_url
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def run(command: str) -> str:
    ran = CliRunner().invoke(app, ["measure", *command.split()])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return ran.stdout


def refused(command: str) -> MetaInfError:
    ran = CliRunner().invoke(app, ["measure", *command.split()])
    assert isinstance(ran.exception, MetaInfError), (ran.exception, ran.output)
    return ran.exception


def test_the_names_in_the_help_are_those_that_exist() -> None:
    from metainf.engines import engine
    from metainf.measure.recipes import recipe
    from metainf.measure.serving import serving_engine

    assert set(WORKLOADS) == set(STUDY)
    assert all(recipe(name, serving_engine(engine("llama.cpp"))) for name in RECIPES)


def test_help_is_light() -> None:
    code = (
        "import sys; sys.argv = ['metainf', 'measure', '--help']\n"
        "from metainf.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', sorted({'aiohttp', 'psutil', 'xllamacpp', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "LOADED []"


def test_a_server_by_url(url: str, store: Path) -> None:
    found = json.loads(
        run(f"--url {url} --model SmolLM2-135M-Instruct --batch 4 --requests 8 --repeats 1 --json")
    )
    (line,) = found["lines"]
    assert line["method"] == "as it runs" and line["output_tokens_per_s"] > 0
    (record,) = found["records"]
    assert record["method"]["engine"] == "unknown" and record["provenance"]["source"] == "metainf"
    assert "memory_gib" not in record["outcome"]["metrics"], "nothing is known of its process"
    assert record["setting"]["workload"]["concurrency"] == 4
    table = run(f"--url {url}/v1 --model SmolLM2-135M-Instruct --batch 2 --requests 4 --time-limit 10m")
    assert "short_chat" in table and "2 records stored" in table
    with open_store(store) as opened:
        assert opened.count() == 3


@pytest.mark.parametrize("url", [{"prefix_cache": True}], indirect=True)
def test_a_server_that_keeps_prefixes_finds_none_of_an_earlier_run(url: str) -> None:
    """Repeats, other numbers in flight and a second sweep ask for what the server has not seen."""
    command = f"--url {url} --model SmolLM2-135M-Instruct --batch 1 --batch 2 --requests 4 --json"
    for campaign in ("first", "second"):
        records = json.loads(run(f"{command} --campaign {campaign}"))["records"]
        assert len(records) == 4
        assert [r["outcome"]["metrics"]["prefix_hit_share"] for r in records] == [0] * 4
    shared = run(f"--url {url} --model SmolLM2-135M-Instruct -w shared_prefix -b 1 --requests 4 --json")
    hits = [r["outcome"]["metrics"]["prefix_hit_share"] for r in json.loads(shared)["records"]]
    assert len(hits) == 2 and all(0.5 < share < 0.8 for share in hits), "what they share, and no more"


@pytest.mark.parametrize("url", [{"fail": "error_inside"}], indirect=True)
def test_where_every_run_fails_so_does_the_command(url: str) -> None:
    command = ["measure", "--url", url, "--model", "SmolLM2-135M-Instruct", "--requests", "4"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 1 and "no run gave numbers" in ran.stderr
    assert "the worker died" in ran.stdout and "2 records stored" in ran.stdout


@pytest.mark.parametrize("url", [{"fail": "bad_request"}], indirect=True)
def test_runs_that_would_fail_again_are_told(url: str) -> None:
    command = ["measure", "--url", url, "--model", "SmolLM2-135M-Instruct", "--repeats", "3"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 1 and "2 runs were skipped" in ran.stdout


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("--method baselin --dry-run", BadInput, "did you mean baseline"),
        ("--workload short_chatt", BadInput, "did you mean short_chat"),
        ("--engine lama.cpp", BadInput, "did you mean llama.cpp"),
        ("--engine diffusers", BadInput, "expected a model that draws"),
        ("--batch 0", BadInput, "at least 1 request in flight"),
        ("--batch 2 --rate 3", BadInput, "found both"),
        ("--url ftp://x --model SmolLM2-135M-Instruct", BadInput, "expected a URL"),
        ("--url http://127.0.0.1:9 --model SmolLM2-135M-Instruct", MetaInfError, "to name a model"),
        ("--device tpu --model SmolLM2-135M-Instruct", BadInput, "expected cpu or gpu"),
        ("--model absent.gguf", BadInput, "does not exist"),
        ("--time-limit soon", BadInput, "a duration such as"),
    ],
)
def test_what_makes_no_sense_is_refused(command: str, error: type, words: str) -> None:
    found = refused(command)
    assert isinstance(found, error) and words in str(found), str(found)


@needs_llama
def test_the_plan_costs_nothing(store: Path) -> None:
    told = json.loads(run("--dry-run --json --method baseline --method all --batch 2 --batch 4"))
    assert len(told["runs"]) == 8 and told["expected_s"] > 0
    assert {run["method"] for run in told["runs"]} == {"baseline", "all"}
    assert all("llama-server" in run["command"] for run in told["runs"])
    assert "8 runs, about" in run("--dry-run --method baseline --method prefix --batch 2 --batch 4")
    with open_store(store) as opened:
        assert opened.count() == 0


@needs_llama
@pytest.mark.skipif(find_spec("gguf") is None, reason="gguf is not installed")
def test_the_plan_writes_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr("metainf.measure.weights.cache_folder", lambda: cache)
    told = json.loads(run("--dry-run --json --method q8_0 --method draft:first-2-layers"))
    assert any("-Q8_0.gguf" in run["command"] for run in told["runs"])
    assert any("-first-2-layers.gguf" in run["command"] for run in told["runs"])
    assert not cache.exists()


@needs_llama
def test_llama_cpp_itself(store: Path) -> None:
    """Real weights in a real engine: two methods, records that say what ran."""
    told = json.loads(run("--method baseline --method prefix --batch 2 --requests 3 --repeats 1 --json"))
    plain, prefix = told["records"]
    for record in (plain, prefix):
        assert record["outcome"]["kind"] == "measured", record["outcome"]
        assert record["setting"]["model"]["name"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
        assert record["setting"]["model"]["quantization"] == "Q4_1"
        assert record["setting"]["workload"]["output_tokens"]["mean"] == 32
        assert record["setting"]["hardware"]["device"]["kind"] == "cpu"
        assert record["outcome"]["metrics"]["memory_gib"] > 0.05
        assert record["method"]["engine_version"]
        assert "/" not in record["provenance"]["command"].split(" -m ")[1].split()[0], "no folders"
    assert plain["outcome"]["metrics"]["quality"] == 1
    with open_store(store) as opened:
        assert opened.count() == opened.check() == 2


@needs_llama
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_stopping_it_stops_the_engine(number: signal.Signals, store: Path) -> None:
    command = [sys.executable, "-m", "metainf", "measure", "--batch", "1", "--requests", "500"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as runner:
        until = time.monotonic() + 60
        while len(below := psutil.Process(runner.pid).children(recursive=True)) < 2:
            assert time.monotonic() < until and runner.poll() is None, "no engine was started"
            time.sleep(0.1)
        time.sleep(1.0)
        runner.send_signal(number)
        assert runner.wait(30) == 130
        assert runner.stderr is not None and "--resume goes on" in runner.stderr.read()
    assert psutil.wait_procs(below, timeout=10)[1] == []
