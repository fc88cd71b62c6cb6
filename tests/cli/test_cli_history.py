"""metainf import | records: a result file into a store, out of it, and into another."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metainf.cli.app import app
from metainf.domain import BadInput, MetaInfError, Record

FIXTURES = Path(__file__).resolve().parents[1] / "importers" / "fixtures"
GOOD, MIXED = FIXTURES / "vllm_serve.json", FIXTURES / "vllm_serve_append.jsonl"
SAID = ("--hardware", "2xH100", "--engine", "vllm", "--model", "Qwen/Qwen3-8B")


def said(*arguments: object) -> str:
    ran = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return str(ran.output)


def data(*arguments: object) -> Any:
    return json.loads(said(*arguments, "--json"))


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "records.sqlite")


def test_a_dry_run_keeps_nothing(store: str) -> None:
    (row,) = data("import", "--dry-run", GOOD, *SAID, "--store", store)
    assert (row["format"], row["read"], row["new"], row["rejected"]) == ("vllm-serve", 1, 1, 0)
    assert not Path(store).exists()


def test_import_twice_keeps_once(store: str) -> None:
    first, again = (data("import", GOOD, *SAID, "--store", store)[0] for _ in range(2))
    assert (first["new"], first["known"]) == (1, 0)
    assert (again["new"], again["known"]) == (0, 1)
    (source,) = data("records", "list", "--store", store)
    assert (source["records"], source["failed"], source["models"], source["devices"]) == (1, 0, 1, 1)
    assert "vllm-serve" in said("import", GOOD, *SAID, "--store", store)
    assert source["source"] in said("records", "list", "--store", store)


def test_every_row_is_accounted_for(store: str) -> None:
    (row,) = data("import", MIXED, *SAID, "--store", store)
    assert row["read"] == row["new"] + row["known"] + row["rejected"] == 6
    assert row["rejected"] == 2 == sum(row["reasons"].values())
    text = said("import", "--dry-run", MIXED, *SAID)
    assert all(reason.split()[0] in text for reason in row["reasons"])


def test_several_files_at_once(store: str) -> None:
    rows = data("import", GOOD, MIXED, *SAID, "--store", store)
    assert [row["path"] for row in rows] == [str(GOOD), str(MIXED)]
    total = sum(source["records"] for source in data("records", "list", "--store", store))
    assert total == sum(row["new"] for row in rows) == 5


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_export_and_merge(store: str, tmp_path: Path, ending: str) -> None:
    data("import", GOOD, MIXED, *SAID, "--store", store)
    out, other = tmp_path / f"out{ending}", tmp_path / "other.sqlite"
    assert said("records", "export", out, "--store", store).startswith("5 records written")
    assert said("records", "merge", out, "--store", other) == "5 new, 0 known already\n"
    assert said("records", "merge", out, "--store", other) == "0 new, 5 known already\n"
    assert said("records", "merge", store, "--store", other) == "0 new, 5 known already\n"
    if ending == ".jsonl":
        lines = out.read_text(encoding="utf-8").splitlines()
        assert len({Record.parse(line).id for line in lines}) == 5


def test_the_store_may_be_named_by_the_environment(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAINF_STORE", store)
    assert data("import", GOOD, *SAID)[0]["new"] == 1
    assert len(data("records", "list")) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--format", "vlm-serve", GOOD), "vllm-serve"),
        ((FIXTURES / "README.md",), "expected a result file"),
        ((FIXTURES / "absent.json",), "absent.json"),
    ],
)
def test_what_cannot_be_read_is_refused(arguments: tuple[object, ...], text: str, store: str) -> None:
    words = ["import", *map(str, arguments), "--store", store]
    ran = CliRunner().invoke(app, words)
    assert isinstance(ran.exception, BadInput), ran.exception
    assert text in str(ran.exception)


def test_an_export_of_unknown_ending_is_refused(store: str, tmp_path: Path) -> None:
    data("import", GOOD, *SAID, "--store", store)
    ran = CliRunner().invoke(app, ["records", "export", str(tmp_path / "out.xls"), "--store", store])
    assert isinstance(ran.exception, MetaInfError) and ".jsonl" in str(ran.exception)


@pytest.mark.parametrize("wrong", [("--hardware", "h1000x"), ("--model", "no-such-model")], ids=" ".join)
def test_an_unknown_name_in_a_flag_is_refused(wrong: tuple[str, str], store: str) -> None:
    ran = CliRunner().invoke(app, ["import", str(GOOD), *wrong, "--store", store])
    assert isinstance(ran.exception, BadInput)


def test_listing_makes_no_store(store: str) -> None:
    CliRunner().invoke(app, ["records", "list", "--store", store])
    assert not Path(store).exists()
