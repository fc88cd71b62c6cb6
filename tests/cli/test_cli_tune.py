"""metainf tune and measure --plan: what would be run, what is refused, and llama.cpp itself."""

import json
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines_here import needs_llama
from metainf.cli import tuning
from metainf.cli.app import app
from metainf.domain import BadInput, MetaInfError, MissingExtra, NotSupported
from metainf.store import open_store

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
pytest.importorskip("psutil", reason="the extra measure is not installed")
FEW = "--engine llama.cpp --method baseline --method prefix --method lookup --batch 2 --requests 3"

TWO = "--engine llama.cpp --method baseline --method prefix --batch 2 --requests 2"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAINF_STORE", str(tmp_path / "records.sqlite"))
    return tmp_path / "records.sqlite"


def run(command: str) -> str:
    ran = CliRunner().invoke(app, command.split())
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return ran.stdout


def refused(command: str) -> MetaInfError:
    ran = CliRunner().invoke(app, command.split())
    assert isinstance(ran.exception, MetaInfError), (ran.exception, ran.output)
    return ran.exception


def test_the_aims_in_the_help_are_those_that_exist() -> None:
    from metainf.measure.earlier import AIMS

    assert tuple(AIMS) == tuning.AIMS


def test_help_is_light() -> None:
    code = (
        "import sys; sys.argv = ['metainf', 'tune', '--help']\n"
        "from metainf.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', sorted({'aiohttp', 'psutil', 'xllamacpp', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("tune --aim speed", BadInput, "unknown aim"),
        ("tune --workload short_chatt", BadInput, "did you mean short_chat"),
        ("tune --engine lama.cpp", BadInput, "did you mean llama.cpp"),
        ("tune --engine diffusers", NotSupported, "serves no language model"),
        ("tune --batch 0", BadInput, "at least 1 request in flight"),
        ("tune --batch 2 --rate 3", BadInput, "found both"),
        ("tune --least-quality 1.5", BadInput, "quality from 0 to 1"),
        ("tune --time-limit soon", BadInput, "a duration such as"),
        ("tune --device tpu", BadInput, "expected cpu or gpu"),
        ("tune --model absent.gguf", BadInput, "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(command: str, error: type, words: str) -> None:
    found = refused(command)
    assert isinstance(found, error) and words in str(found), str(found)


@needs_llama
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("tune --engine llama.cpp --method baselin", "did you mean baseline"),
        ("tune --time-limit 0s --engine llama.cpp --method baseline", "a duration such as"),
        ("tune --share 0 --engine llama.cpp --method baseline", "share"),
        ("measure --plan 0", "greater than or equal to 1"),
    ],
)
def test_more_that_makes_no_sense(command: str, words: str) -> None:
    ran = CliRunner().invoke(app, command.split())
    assert ran.exit_code and words in f"{ran.exception} {ran.output}", (ran.exception, ran.output)


def test_without_an_engine_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from metainf.measure import programs

    def none_here(argv: object, machine: object = None) -> None:
        raise MissingExtra("running an engine", "llamacpp")

    monkeypatch.setattr(programs, "runnable", none_here)
    assert "pip install 'metainf[llamacpp]'" in str(refused("tune"))


@needs_llama
def test_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    from metainf.measure import monitor

    monkeypatch.setattr(monitor, "free_gib", lambda: 1e-3)
    assert "GiB" in str(refused(f"tune {FEW}"))


@needs_llama
def test_the_dry_run_tells_what_would_be_run_and_why(store: Path) -> None:
    told = json.loads(run(f"tune --dry-run --json {FEW}"))
    names = [row["method"] for row in told["candidates"]]
    assert sorted(names) == ["baseline", "lookup", "prefix"] and told["aim"] == "throughput"
    assert told["candidates"][0]["why"] and all(row["expected_s"] > 0 for row in told["candidates"])
    assert "3 candidates" in run(f"tune --dry-run {FEW}")
    with open_store(store) as opened:
        assert opened.count() == 0


@needs_llama
def test_the_dry_run_tells_where_expectations_come_from() -> None:
    told = json.loads(run(f"tune --dry-run --json {FEW}"))
    assert told["known_before"] == {"own_runs": 0, "study_runs": 0, "study_of": []}
    for row in told["candidates"]:
        assert row["known_from"] in (["forecast"], ["arithmetic"]) and row["ratio"] > 0
        assert (row["expected"] is None) == (row["known_from"] == ["arithmetic"])
    (plain,) = (row for row in told["candidates"] if row["method"] == "baseline")
    assert plain["ratio"] == 1


@needs_llama
def test_where_the_forecast_is_silent_the_study_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    from metainf.api import tuning as made
    from metainf.study.parts import shipped

    monkeypatch.setattr(made, "prior_of", lambda *_: lambda _, methods: [(None, 1.0)] * len(methods))
    study = [record for record in shipped() if record.method.engine == "llama.cpp"]
    told = json.loads(run(f"tune --dry-run --json {FEW}"))
    before = told["known_before"]
    assert before["own_runs"] == 0
    if not study:
        assert before["study_runs"] == 0 and all(not row["known_from"] for row in told["candidates"])
        return
    assert 0 < before["study_runs"] <= len(study)
    assert before["study_of"] == sorted({record.setting.hardware.device.name for record in study})
    for row in told["candidates"]:
        assert row["known_from"] == ["study"] and row["ratio"] > 0 and row["expected"] is None
    words = run(f"tune --dry-run {FEW}")
    assert "how fast this machine is they do not tell" in words and before["study_of"][0] in words


@needs_llama
def test_the_plan_is_the_few_that_tell_most(store: Path) -> None:
    asked = "--workload short_chat --workload long_prompt --method baseline --method prefix --batch 2"
    told = json.loads(run(f"measure --plan 3 --dry-run --json {asked}"))
    assert len(told["runs"]) == 3 and all(row["why"] for row in told["runs"])
    assert len({(row["method"], row["workload"]) for row in told["runs"]}) == 3
    twice = json.loads(run(f"measure --plan 3 --repeats 2 --dry-run --json {asked}"))
    assert len(twice["runs"]) == 6 and {row["repeat"] for row in twice["runs"]} == {1, 2}
    short = json.loads(run(f"measure --plan 3 --time-limit 1s --dry-run --json {asked}"))
    assert short["runs"] == []
    assert "why" in run(f"measure --plan 1 --dry-run {asked}")


@needs_llama
def test_llama_cpp_itself(store: Path) -> None:
    """Real weights in a real engine: the winner was measured here, and its proof is in the store."""
    told = json.loads(run(f"tune --json --time-limit 10m --repeats 1 --least-quality 0.2 {TWO}"))
    winner = told["winner"]
    assert winner["name"] in ("baseline", "prefix") and winner["engine"] == "llama.cpp"
    assert (
        winner["value"] > 0 and winner["quality"] >= 0.2 and winner["command"].startswith("llama-server -m ")
    )
    assert "--port" not in winner["command"] and 0 <= winner["ahead"] <= 1 and winner["loss"] >= 0
    assert winner["ratio"] == pytest.approx(winner["value"] / winner["baseline"])
    measured = {row["method"]: row for row in told["runs"]}
    assert winner["name"] in measured and "baseline" in measured
    with open_store(store) as opened:
        assert opened.count() == opened.check() == len(told["records"]) >= 1
    known = json.loads(run(f"tune --dry-run --json {TWO}"))
    assert all(row["expected"] > 0 for row in known["candidates"]), "what was run is known the next time"


def test_the_floor_of_quality_is_that_of_the_study() -> None:
    from metainf.api import Tuning
    from metainf.cli.tuning import tune
    from metainf.measure.asked import LEAST_AGREEMENT

    assert signature(tune).parameters["least_quality"].default == LEAST_AGREEMENT
    assert Tuning.least_quality == LEAST_AGREEMENT
