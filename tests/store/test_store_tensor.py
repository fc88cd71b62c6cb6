"""The counted tensor says what the records say, on both databases."""

import math
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metainf.domain import (
    BadInput,
    Batching,
    Device,
    Failed,
    Hardware,
    Measured,
    Method,
    Metrics,
    Model,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.store import Filter, Store, open_store
from metainf.store.cells import AXIS, COUNTED, SOURCE_CELLS, TALLIES, WORK_CELLS
from metainf.store.counting import Counting
from metainf.store.jobs import Jobs
from metainf.store.tensor import Cell, Found, Tensor, Wanted


def record(trial: int) -> Record:
    """Three models, two devices in two sizes, two engines with three methods each, every seventh failed."""
    failed = Failed(reason="out_of_memory" if trial % 2 else "crashed")
    measured = Measured(metrics=Metrics(output_tokens_per_s=10.0 + trial, tpot_s=0.01 * (1 + trial % 9)))
    return Record(
        setting=Setting(
            model=Model(name=f"model-{trial % 3}"),
            workload=Workload(concurrency=float(1 + trial % 5)),
            hardware=Hardware(device=Device(name=f"gpu-{trial % 2}"), count=1 + trial % 4),
        ),
        method=Method(
            engine=f"engine-{trial % 2}", techniques=(Batching(max_sequences=8 * (1 + trial % 3)),)
        ),
        outcome=failed if trial % 7 == 0 else measured,
        provenance=Provenance(source=f"source-{trial % 4}", trial=trial),
    )


RECORDS = [record(trial) for trial in range(400)]


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = tmp_path / "s.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with open_store(url) as opened:
        yield opened


def count(store: Store, most: int = 97) -> Tensor:
    counting = Counting(store.database)
    while counting.advance(most):
        pass
    return Tensor(store.database)


def by_label(found: Found) -> dict[tuple[str, str], Cell]:
    rows = {each.code: each.label for each in found.rows}
    columns = {each.code: each.label for each in found.columns}
    return {(rows[cell.row], columns[cell.column]): cell for cell in found.cells}


def test_the_cells_are_the_sums_of_the_records(store: Store) -> None:
    store.add(RECORDS[:250])
    count(store)
    store.add(RECORDS[250:])
    tensor = count(store)
    assert tensor.state() == (len(RECORDS), 0)
    found = by_label(tensor.read(Wanted(metric="tpot_s", columns="engine")))
    values = defaultdict(list)
    for each in RECORDS:
        values[each.setting.model.name, each.method.engine].append(each)
    assert found.keys() == values.keys()
    for place, records in values.items():
        shown = [one.metrics.tpot_s for one in records if one.metrics is not None and one.metrics.tpot_s]
        reasons = [one.outcome.reason for one in records if isinstance(one.outcome, Failed)]
        cell = found[place]
        assert cell.records == len(records) and cell.measured == len(shown)
        assert cell.failed == tuple(
            reasons.count(name)
            for name in ("out_of_memory", "unsupported", "crashed", "timed_out", "unknown")
        )
        assert cell.best == min(shown)
        assert cell.typical == pytest.approx(math.exp(sum(map(math.log, shown)) / len(shown)))


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({"source": "source-1"}, {"source": "source-1"}),
        ({"device": "gpu-1"}, {"device": "gpu-1"}),
        ({"engine": "engine-0"}, {"engine": "engine-0"}),
        ({"model": "model-2", "rows": "workload"}, {"model": "model-2"}),
        ({"model": "model-2", "source": "source-3"}, {"model": "model-2", "source": "source-3"}),
        ({"rows": "hardware", "device": "gpu-0", "engine": "engine-0"}, {"device": "gpu-0"}),
    ],
)
def test_filters_are_those_of_the_records(
    store: Store, wanted: dict[str, str], where: dict[str, str]
) -> None:
    store.add(RECORDS)
    found = count(store).read(Wanted(**wanted))  # type: ignore[arg-type]
    assert sum(cell.records for cell in found.cells) == store.count(Filter(**where)) > 0
    assert sum(row.records for row in found.rows) == sum(column.records for column in found.columns)


def test_a_place_leads_to_its_records(store: Store) -> None:
    store.add(RECORDS)
    tensor = count(store)
    found = tensor.read(Wanted(rows="workload", model="model-1"))
    rows, columns = ({each.code: each.id for each in axis} for axis in (found.rows, found.columns))
    for cell in found.cells:
        where = Filter(model="model-1", workload=rows[cell.row], method=columns[cell.column])
        assert store.count(where) == cell.records
    for each in tensor.axes("hardware"):
        assert store.count(Filter(hardware=each.id)) == each.records


def test_the_fullest_first_and_only_failures(store: Store) -> None:
    store.add([*RECORDS, *[record(trial) for trial in range(1000, 1100) if trial % 3 == 1]])
    tensor = count(store)
    found = tensor.read(Wanted(most=1))
    assert (len(found.rows), len(found.columns), found.all_rows) == (1, 1, 3)
    assert found.rows[0].label == "model-1"
    failed = tensor.read(Wanted(failed=True, rows="workload", model="model-0"))
    whole = tensor.read(Wanted(rows="workload", model="model-0"))
    assert failed.cells and all(sum(cell.failed) for cell in failed.cells)
    assert sorted(failed.cells) == sorted(cell for cell in whole.cells if sum(cell.failed))


def test_a_store_of_an_earlier_version_is_caught_up(store: Store) -> None:
    """A table that it did not keep is filled on opening, and counted on from there."""
    store.add(RECORDS[:300])
    count(store)
    with store.database.write() as connection:
        WORK_CELLS.drop(connection)
    Jobs(store.database)  # whatever opens the store first makes the table, empty
    store.add(RECORDS[300:])
    found = [count(store).read(Wanted(rows="workload", model=f"model-{i}")) for i in range(3)]
    with store.database.write() as connection:
        for table in (*TALLIES, AXIS, COUNTED):
            table.drop(connection)
    anew = [count(store).read(Wanted(rows="workload", model=f"model-{i}")) for i in range(3)]
    for one, other in zip(found, anew, strict=True):
        assert one.rows == other.rows and one.columns == other.columns
        assert [cell[:-2] for cell in one.cells] == [cell[:-2] for cell in other.cells]
        assert [cell.best for cell in one.cells] == [cell.best for cell in other.cells]
        typical = [[cell.typical or 0.0 for cell in each.cells] for each in (one, other)]
        assert typical[0] == pytest.approx(typical[1])


KILLED = """
import os, signal, sys
import sqlalchemy as sa
from metainf.store import open_store
from metainf.store.cells import AXIS, COUNTED, SOURCE_CELLS, TALLIES, WORK_CELLS
from metainf.store.counting import Counting
from metainf.store.jobs import Jobs
with open_store(sys.argv[1]) as store:
    @sa.event.listens_for(store.database.engine, "after_cursor_execute")
    def end(connection, cursor, statement, *rest):
        if statement.startswith("INSERT INTO metainf_work_cells"):
            os.kill(os.getpid(), signal.SIGKILL)
    Counting(store.database)
"""


def test_catching_up_that_is_killed_is_done_again(store: Store, request: pytest.FixtureRequest) -> None:
    store.add(RECORDS)
    wanted = Wanted(rows="workload", model="model-1")
    whole = count(store).read(wanted)
    with store.database.write() as connection:
        for table in (WORK_CELLS, SOURCE_CELLS):
            table.drop(connection)
    url = store.database.engine.url
    name = url.database if store.database.is_sqlite else url.render_as_string(hide_password=False)
    ran = subprocess.run([sys.executable, "-c", KILLED, str(name)], capture_output=True, timeout=60)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    found = Tensor(store.database).read(wanted)
    assert found.rows == whole.rows and len(found.cells) == len(whole.cells)
    assert sum(cell.records for cell in found.cells) == store.count(Filter(model="model-1"))
    of_source = Tensor(store.database).read(Wanted(source="source-1"))
    assert sum(cell.records for cell in of_source.cells) == store.count(Filter(source="source-1"))


@pytest.mark.parametrize("more", [{}, {"failed": True}, {"columns": "engine"}])
def test_few_rows_are_the_fullest_of_many(store: Store, more: dict[str, Any]) -> None:
    """What is left out is told, and what is drawn is as without a bound."""
    store.add(RECORDS)
    tensor = count(store)
    asked: dict[str, Any] = {"rows": "workload", "model": "model-0", **more}
    whole, few = tensor.read(Wanted(**asked)), tensor.read(Wanted(most=2, **asked))
    assert (few.all_rows, few.all_columns) == (len(whole.rows), len(whole.columns))
    assert few.rows == whole.rows[:2] and few.columns == whole.columns[:2]
    rows, columns = ({each.code for each in axis} for axis in (few.rows, few.columns))
    kept = [cell for cell in whole.cells if cell.row in rows and cell.column in columns]
    assert sorted(few.cells) == sorted(kept) and len(kept) > 0


def test_nothing_there_is_no_error(store: Store) -> None:
    tensor = count(store)
    assert tensor.read(Wanted()) == Found([], [], [], 0, 0) and tensor.state() == (0, 0)
    store.add(RECORDS[:5])
    assert Tensor(store.database).state() == (0, 5)
    assert count(store).read(Wanted(model="none such")).cells == []


@pytest.mark.parametrize(
    "wrong", [{"metric": "speed"}, {"rows": "workload"}, {"columns": "x"}, {"most": 0}, {"model": "a\x00"}]
)
def test_a_wrong_wish_is_bad_input(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        Wanted(**wrong)  # type: ignore[arg-type]


def test_two_that_count_count_once(store: Store) -> None:
    store.add(RECORDS)
    counters = [Counting(store.database) for _ in range(2)]

    def work(one: Counting) -> None:
        while one.advance(20):
            pass

    threads = [threading.Thread(target=work, args=(one,)) for one in counters]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert Tensor(store.database).state() == (len(RECORDS), 0)
    assert sum(cell.records for cell in Tensor(store.database).read(Wanted()).cells) == len(RECORDS)
