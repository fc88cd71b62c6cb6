"""metainf evaluate: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metainf.cli.app import app
from metainf.domain import (
    BadInput,
    Device,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.store import open_store

CHEAP = ("--chooser", "random", "--chooser", "oracle", "--by", "model")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("evaluate") / "records.sqlite"
    rows = []
    for place, model in enumerate("abcdef"):
        for engine, speed in (("x", 100.0), ("y", 50.0)):
            setting = Setting(
                model=Model(name=model),
                workload=Workload(
                    input_tokens=Lengths(mean=10.0), output_tokens=Lengths(mean=10.0), concurrency=1.0
                ),
                hardware=Hardware(device=Device(name="gpu"), count=1),
            )
            outcome = Measured(metrics=Metrics(output_tokens_per_s=speed * (1 + place / 10)))
            origin = Provenance(source="made-up")
            rows.append(
                Record(setting=setting, method=Method(engine=engine), outcome=outcome, provenance=origin)
            )
    open_store(str(path)).add(rows)
    return str(path)


def ran(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["evaluate", *(str(each) for each in arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def test_json_is_the_whole_evaluation(store: str) -> None:
    found = json.loads(ran("--store", store, *CHEAP, "--json"))
    (view,) = found["views"]
    by_name = {line["name"]: line["regret"] for line in view["choosers"]}
    assert by_name == {"random": 0.25, "oracle": 0.0, "single best": 0.0}
    assert set(found) == {"plan", "views", "errors", "notes"}


def test_report_and_figures_stand_side_by_side(store: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    ran("--store", store, *CHEAP, "--report", page, "--plots", page.parent / "figures")
    text = page.read_text()
    assert (
        "(figures/regret-made-up.svg)" in text and (page.parent / "figures" / "regret-made-up.svg").exists()
    )


def test_a_second_call_goes_on_from_the_first(store: str, tmp_path: Path) -> None:
    done = tmp_path / "done.jsonl"
    first = ran("--store", store, *CHEAP, "--resume", done, "--json")
    before = done.read_bytes()
    assert ran("--store", store, *CHEAP, "--resume", done, "--json") == first and done.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--quality", "best"), "quality"),
        (("--by", "colour"), "model, hardware"),
        (("--chooser", "witch"), "witch"),
    ],
)
def test_wrong_words_are_refused(store: str, arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", "--store", store, *arguments])
    assert isinstance(done.exception, BadInput) and said in str(done.exception)


def test_a_peer_that_is_no_table_is_refused(store: str, tmp_path: Path) -> None:
    path = tmp_path / "peer.parquet"
    path.write_text("not a table")
    done = CliRunner().invoke(app, ["evaluate", "--store", store, *CHEAP, "--peer", str(path)])
    assert isinstance(done.exception, BadInput) and "Parquet" in str(done.exception)


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A new model each day of three months, two engines on each; the better one changes in the middle."""
    path = tmp_path_factory.mktemp("dated") / "records.sqlite"
    rows = []
    for day in range(60):
        for engine in ("x", "y"):
            setting = Setting(
                model=Model(name=f"model-{day}", family=f"model-{day}"),
                workload=Workload(
                    input_tokens=Lengths(mean=10.0), output_tokens=Lengths(mean=10.0), concurrency=1.0
                ),
                hardware=Hardware(device=Device(name="gpu"), count=1),
            )
            speed = 100.0 if (engine == "x") == (day < 30) else 50.0
            outcome = Measured(metrics=Metrics(output_tokens_per_s=speed + day))
            origin = Provenance(source="made-up", date=f"2025-0{1 + day // 20}-{1 + day % 20:02}")
            rows.append(
                Record(setting=setting, method=Method(engine=engine), outcome=outcome, provenance=origin)
            )
    open_store(str(path)).add(rows)
    return str(path)


def test_regret_from_date_to_date(dated: str, tmp_path: Path) -> None:
    """What was best is no longer after the change; the page reads back as data."""
    from metainf.api.over_time import read_pages

    page = tmp_path / "over_time.md"
    choosers = [word for name in ("MetaInf", "random") for word in ("--chooser", name)]
    told = ("--store", dated, "--by", "rolling", *choosers, "--most-folds", 5, "--json", "--report", page)
    (view,) = json.loads(ran(*told))["views"]
    moments = view["moments"]
    assert [one["until"] for one in moments] == [*(one["since"] for one in moments[1:]), ""]
    assert [one["known"] for one in moments] == sorted(one["known"] for one in moments)
    assert sum(one["cells"] for one in moments) == view["cells"] == 50
    single = [one["regret"]["single best"][0] for one in moments]
    lost = [50.0 / (100.0 + day) if day >= 30 else 0.0 for day in range(60)]
    assert single[:3] == pytest.approx([0.0, 0.0, sum(lost[30:40]) / 10], abs=1e-4), "the change is seen"
    runs = Path(__file__).parents[2] / "docs" / "planning.md"
    found = read_pages(page.read_text(encoding="utf-8"), runs.read_text(encoding="utf-8")).moments
    assert [one.since for one in found] == [one["since"] for one in moments]
    assert [one.single_best_regret for one in found] == pytest.approx(single, abs=1e-3)
    assert [one.random_regret for one in found] == pytest.approx([0.25] * len(found), abs=0.12)
    ours = [one["regret"]["MetaInf"] for one in moments]
    assert [(one.regret, one.low, one.high) for one in found] == [pytest.approx(o, abs=1e-3) for o in ours]
