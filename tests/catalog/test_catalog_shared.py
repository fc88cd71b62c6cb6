"""Checks against published data beside the checkout; skipped where that folder is absent."""

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from metainf.catalog import find_model, models, parse_hardware
from metainf.catalog.huggingface import read_config
from metainf.domain import BadInput

SHARED = Path(os.environ.get("METAINF_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FACTS, PERFORMANCE = SHARED / "data" / "facts", SHARED / "data" / "performance"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FACTS.is_dir(), reason="no shared data folder beside the checkout"),
]


def test_configurations_give_the_known_counts() -> None:
    with (FACTS / "llm_models.csv").open() as file:
        known = {row["model_id"]: row for row in csv.DictReader(file)}
    counted = 0
    for file_path in sorted((FACTS / "hf_configs").glob("*.json")):
        row = known.get(file_path.stem.replace("--", "/", 1))
        if row is None or not row["params_method"].startswith("exact"):
            continue
        model = read_config(file_path)
        assert model.num_layers == int(row["num_layers"]), file_path.stem
        assert model.hidden_size == int(row["hidden_size"]), file_path.stem
        if model.params_b is not None:
            assert model.params_b == pytest.approx(float(row["params_b"]), rel=0.03), file_path.stem
            counted += 1
    assert counted >= 40


def resolved(column: str, source: str) -> float:
    """Share of a source's rows whose name resolves."""
    pq = pytest.importorskip("pyarrow.parquet")
    names = Counter(pq.read_table(PERFORMANCE / f"{source}.parquet", columns=[column])[column].to_pylist())
    good = 0
    for name, rows in names.items():
        try:
            good += (
                rows if name and (parse_hardware(name) if column == "hardware" else find_model(name)) else 0
            )
        except BadInput:
            continue
    return good / sum(names.values())


SOURCES = sorted(path.stem for path in PERFORMANCE.glob("*.parquet"))


@pytest.mark.parametrize("source", SOURCES)
def test_names_of_published_benchmarks_resolve(source: str) -> None:
    floor = {"sdwebui": 0.97, "mlperf_dc": 0.96}.get(source, 1.0)  # rows that name no device at all
    assert resolved("hardware", source) >= floor
    assert resolved("model", source) >= 0.97


def test_the_catalogue_holds_every_listed_model() -> None:
    with (FACTS / "llm_models.csv").open() as file:
        assert {row["model_id"] for row in csv.DictReader(file)} <= set(models())
