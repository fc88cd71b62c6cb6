"""The counted tensor and models read from a configuration, by way of the typed client."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import served

from metainf.client import Client
from metainf.domain import BadInput, MetaInfError
from metainf.testing.store_suite import sample

COUNT_S = 20.0
CONFIG = {
    "_name_or_path": "acme/own-8b", "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a service with records, all of them counted."""
    folder: Path = tmp_path_factory.mktemp("tensor")
    with (
        served(folder / "records.sqlite", "--rate", "none", log=folder / "log") as one,
        Client(one.url) as found,
    ):
        found.append([sample(trial, failed=trial % 5 == 0) for trial in range(60)])
        end_s = time.monotonic() + COUNT_S
        while found.tensor_axes().counted < 60:
            assert time.monotonic() < end_s
            time.sleep(0.05)
        yield found


def test_what_was_added_is_counted(asker: Client) -> None:
    axes = asker.tensor_axes()
    assert {line.name for line in axes.models} == {f"model-{i}" for i in range(3)}
    assert sum(line.records for line in axes.engines) == 60 and axes.behind == 0
    found = asker.tensor(metric="ttft_s", columns="engine")
    assert sum(cell.records for cell in found.cells) == 60
    assert sum(sum(cell.failed) for cell in found.cells) == 12
    assert all(cell.typical == pytest.approx(0.1) and cell.best == 0.1 for cell in found.cells)


def test_a_cell_leads_to_its_records(asker: Client) -> None:
    found = asker.tensor(rows="workload", model="model-1")
    cell = found.cells[0]
    names = {line.code: line.name for line in (*found.rows, *found.columns)}
    page = asker.records(model="model-1", workload=names[cell.row], method=names[cell.column])
    assert len(page.records) == cell.records > 0


@pytest.mark.parametrize("wrong", [{"metric": "speed"}, {"rows": "workload"}, {"most": 0}, {"device": ""}])
def test_a_wrong_wish_is_refused(asker: Client, wrong: dict[str, str | int]) -> None:
    with pytest.raises(MetaInfError):
        asker.tensor(**wrong)


def test_a_model_is_read_from_its_config(asker: Client) -> None:
    found = asker.read_model(CONFIG)
    assert found.name == "acme/own-8b" and found.params_b == pytest.approx(8.03, abs=0.05)
    for wrong in ({}, {**CONFIG, "hidden_size": "wide"}, {"model_type": "bert", "hidden_size": 1}):
        with pytest.raises(MetaInfError):
            asker.read_model(wrong)
    with pytest.raises(BadInput):
        asker.read_model({**CONFIG, "num_hidden_layers": 0})
