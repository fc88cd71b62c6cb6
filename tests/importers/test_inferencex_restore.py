"""Facts that the long table lost are put back from the campaign's lists, and only those that are certain."""

import os
import re
from collections import defaultdict
from math import log
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf import catalog
from metainf.domain import (
    BadInput,
    Disaggregation,
    Flags,
    Hardware,
    Measured,
    Method,
    Parallelism,
    Pool,
    Record,
    Speculative,
)
from metainf.importers import Context, read
from metainf.importers.inferencex_restore import Restorer
from metainf.importers.inferencex_runs import Run, parse, points
from metainf.importers.long_table import Reader

SHARED = Path(os.environ.get("METAINF_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TABLE = SHARED / "data" / "performance" / "aic_silicon.parquet"
ANYWHERE = Run("made-up", "", "", "9999", degrees_said=True, pool_total=False)
ROW: dict[str, Any] = {
    "source": "made_up",
    "subsource": "inferencex",
    "licence": "Apache-2.0",
    "source_path": "x.csv",
    "date": "2026-01-29",
    "domain": "llm",
    "model": "deepseek-ai/DeepSeek-R1",
    "dataset": "random_fixed",
    "input_len": 1024.0,
    "output_len": 1024.0,
    "concurrency": 875.0,
    "hardware": "B200",
    "num_devices": None,
    "engine": "tensorrt-llm",
    "engine_version": "0.8.1.post1",
    "precision": "fp4",
    "quant": "fp4",
    "tp": None,
    "ep": None,
    "dp": None,
    "disagg": True,
    "other_method": "Pnanxtp4.0ep4.0dpa1.0/Dnanxtp8.0ep4.0dpa1.0",
    "status": "ok",
    "tpot_s": 0.01,
    "ttft_s": 0.5,
}
SINGLE = {**ROW, "disagg": False, "other_method": None, "engine_version": None, "concurrency": 4.0}


def records(*rows: dict[str, Any]) -> list[Record]:
    reader = Reader(Context(), Restorer(rows))
    found = [reader.record(place, row) for place, row in enumerate(rows)]
    assert all(isinstance(record, Record) for record in found), found
    return [record for record in found if isinstance(record, Record)]


def degrees(**said: float) -> tuple[Parallelism | None, int | None]:
    record = records({**SINGLE, **said})[0]
    return record.method.get(Parallelism), record.setting.hardware.count


def pools(method: Method) -> tuple[Pool, Pool]:
    split = method.get(Disaggregation)
    assert split is not None
    return split.prefill, split.decode


def test_the_lists_name_their_sources_and_known_things() -> None:
    assert sum(map(len, points().values())) > 1000
    for (model, precision, hardware, _, _), each in points().items():
        assert catalog.find_model(model) and catalog.find_device(hardware), (model, hardware)
        assert precision in ("fp4", "fp8", "bf16")
        for point in each:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}:[\w./-]+\.(yaml|sh)", point.run.location)
            assert point.run.since < point.run.before
            assert point.devices <= 144 and point.decode.devices <= 72
        same = [(*p.seen, p.drafting, p.prefill, p.decode, p.run.since) for p in each]
        assert len(set(same)) == len(same), model


@pytest.mark.parametrize("line", ["1/1 TP8", "1/1 mtp3 1xDEP4: 8", "1/1 XP8: 4", "1/1 TP8: x"])
def test_a_line_out_of_grammar_is_refused(line: str) -> None:
    with pytest.raises(BadInput, match="made-up: expected 'IN/OUT"):
        list(parse(line, ANYWHERE))


def test_a_range_of_loads_doubles() -> None:
    assert [p.concurrency for p in parse("8/1 mtp2 1xTP1+3xDEP4: 4-32 50", ANYWHERE)] == [4, 8, 16, 32, 50]
    first = next(parse("8/1 mtp2 1xTP1+3xDEP4: 4", ANYWHERE))
    assert (first.devices, first.draft_tokens, first.decode.name) == (13, 2, "DEP4")


def test_one_match_gives_workers_devices_and_drafting() -> None:
    record = records(ROW)[0]
    prefill, decode = pools(record.method)
    assert prefill == Pool(workers=1, tensor=4, expert=4, attention_data=True)
    assert decode == Pool(workers=5, tensor=8, expert=8, attention_data=True)
    assert record.setting.hardware.count == 44
    assert record.method.get(Speculative) == Speculative(algorithm="mtp", tokens=3)
    location = record.provenance.location or ""
    assert location.startswith("x.csv; layout and drafting from SemiAnalysisAI/InferenceX@")
    assert location.endswith("; stated Pnanxtp4.0ep4.0dpa1.0/Dnanxtp8.0ep4.0dpa1.0")


def test_known_not_to_draft_is_said() -> None:
    method = records({**ROW, "concurrency": 1365.0})[0].method
    assert method.get(Speculative) is None
    assert method.get(Flags) == Flags(values=("spec_decode=none",))


def test_what_matching_points_disagree_on_stays_unknown() -> None:
    record = records({**ROW, "concurrency": 10.0})[0]  # run with and without drafting, on equal pools
    assert pools(record.method)[1] == Pool(workers=5, tensor=8, expert=8, attention_data=False)
    assert record.setting.hardware.count == 44
    assert record.method.get(Speculative) is None and record.method.get(Flags) is None
    where = {"hardware": "H200", "engine_version": "0.8.1.post1", "precision": "fp8", "concurrency": 512.0}
    said = "Pnanxtp8.0ep8.0dpa1.0/Dnanxtp8.0ep8.0dpa1.0"
    record = records({**ROW, **where, "input_len": 8192.0, "other_method": said})[0]
    assert pools(record.method) == (
        Pool(workers=3, tensor=8, expert=8, attention_data=False),
        Pool(workers=1, tensor=8, expert=8, attention_data=True),
    )
    record = records({**ROW, **where, "concurrency": 1024.0, "other_method": said})[
        0
    ]  # 2 or 4 decode workers
    assert pools(record.method)[1] == Pool(tensor=8, expert=8, attention_data=True)
    assert record.setting.hardware.count is None
    assert record.method.get(Speculative) == Speculative(algorithm="mtp")


def test_without_a_match_nothing_is_made_up() -> None:
    record = records({**ROW, "concurrency": 999.0})[0]
    assert pools(record.method) == (Pool(tensor=4, expert=4), Pool(tensor=8))
    assert record.setting.hardware.count is None and record.method.get(Speculative) is None


def test_only_the_campaign_is_touched() -> None:
    for row in ({**ROW, "subsource": "nvidia_lab"}, {**SINGLE, "subsource": None, "tp": 64.0, "ep": 8.0}):
        assert Restorer([row])(row) is row


@pytest.mark.parametrize(
    ("said", "layout", "count"),
    [
        ({"tp": 64, "ep": 8, "dp": 1, "num_devices": 64}, {"tensor": 8, "expert": 8, "data": 1}, 8),
        ({"tp": 8, "ep": 8, "dp": 1, "num_devices": 8}, {"tensor": 8, "expert": 8, "data": 1}, 8),
        ({"tp": 4, "ep": 2, "dp": 1, "num_devices": 4}, {"tensor": 2, "expert": 2, "data": 1}, 2),
        ({"tp": 8, "ep": 1, "dp": 1, "num_devices": 8}, {"tensor": 8, "expert": 1, "data": 1}, 8),
        ({"tp": 2, "ep": 4, "dp": 2, "num_devices": 2}, {"tensor": 2, "expert": 2}, 2),
        (
            {"tp": 1, "ep": 8, "dp": 64, "num_devices": 1},
            {"tensor": 8, "expert": 8, "attention_data": True},
            8,
        ),
        (
            {"tp": 1, "ep": 4, "dp": 4, "num_devices": 1},
            {"tensor": 4, "expert": 4, "attention_data": True},
            4,
        ),
    ],
)
def test_multiplied_degrees_are_divided(said: dict[str, float], layout: dict[str, Any], count: int) -> None:
    assert degrees(**said) == (Parallelism(**layout), count)


def test_contradicting_degrees_leave_the_count_unknown() -> None:
    assert degrees(tp=1, ep=1, dp=4, num_devices=1) == (Parallelism(tensor=1, expert=1, data=4), None)


def test_the_statement_of_the_table_is_kept() -> None:
    record = records({**SINGLE, "tp": 64.0, "ep": 8.0, "dp": 1.0, "num_devices": 64.0})[0]
    assert record.provenance.location == (
        "x.csv; layout from the stated degrees; stated tp=64 ep=8 dp=1 num_devices=64"
    )


def test_a_rack_row_with_the_devices_of_both_pools_is_taken_apart() -> None:
    rack = {**SINGLE, "hardware": "GB200", "date": "2025-11-17", "ep": 1.0, "dp": 1.0}
    record = records({**rack, "tp": 28.0, "num_devices": 28.0, "input_len": 8192.0, "concurrency": 102.0})[0]
    assert pools(record.method) == (
        Pool(workers=1, tensor=4, expert=4, attention_data=False),
        Pool(workers=3, tensor=8, expert=8, attention_data=False),
    )
    assert record.setting.hardware.count == 28
    assert record.method.get(Parallelism) is None
    odd = records({**rack, "tp": 44.0, "num_devices": 44.0})[0]
    assert pools(odd.method) == (Pool(), Pool()) and odd.setting.hardware.count == 44


def test_a_day_of_one_half_tells_what_single_rows_cannot() -> None:
    """Loads 10 ... 180 are in both halves; 450, 2192 and 4096 only in the one without drafting."""
    alone = [{**ROW, "concurrency": load} for load in (10.0, 45.0, 450.0, 2192.0, 4096.0)]
    assert all(record.method.get(Flags) for record in records(*alone))
    mixed = [*alone, {**ROW, "concurrency": 875.0}]  # 875 drafts
    found = records(*mixed)
    assert [record.method.get(Flags) is not None for record in found] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    assert found[-1].method.get(Speculative) is not None


def test_a_script_that_chose_by_load_names_the_layout() -> None:
    early = {**SINGLE, "date": "2025-11-02", "tp": 8.0, "ep": 1.0, "dp": 1.0, "num_devices": 8.0}
    layouts = [
        records({**early, "concurrency": load})[0].method.get(Parallelism) for load in (8.0, 64.0, 256.0)
    ]
    assert layouts == [
        Parallelism(tensor=8, expert=1, data=1),
        Parallelism(tensor=8, expert=8, data=1),
        Parallelism(tensor=8, expert=8, attention_data=True),
    ]


def test_dates_bound_a_list() -> None:
    row = {
        **SINGLE,
        "model": "Qwen/Qwen3.5-397B-A17B",
        "engine": "sglang",
        "engine_version": "nightly-dev-20260402-d7256eb6",
        "tp": 4.0,
        "num_devices": 4.0,
    }
    assert records({**row, "date": "2026-04-08"})[0].method.get(Flags) == Flags(values=("spec_decode=none",))
    later = records({**row, "date": "2026-04-20"})[
        0
    ].method  # a drafting run of the same layout exists by then
    assert later.get(Flags) is None and later.get(Speculative) is None


@given(st.floats(1e-4, 1e3), st.floats(1e-4, 1e3), st.sampled_from([6.0, 10.0, 875.0, 1365.0, 4096.0, 7.0]))
def test_measured_numbers_play_no_part(tpot_s: float, ttft_s: float, load: float) -> None:
    row = {**ROW, "concurrency": load}
    (one,) = records(row)
    (other,) = records({**row, "tpot_s": tpot_s, "ttft_s": ttft_s})
    assert (one.method, one.setting) == (other.method, other.setting)


def test_a_parquet_file_is_restored_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([ROW, {**ROW, "subsource": "else"}]), path)
    first, second = read(path)
    assert isinstance(first, Record) and isinstance(second, Record)
    assert first.setting.hardware.count == 44 and second.setting.hardware.count is None


@pytest.mark.skipif(not TABLE.is_file(), reason="the shared data folder is not beside the checkout")
def test_the_real_table_is_told_apart() -> None:
    """Rows whose every fact is known differ by a few per cent, as repeats of one run do."""
    same: defaultdict[tuple[str, str, Hardware, str], set[float]] = defaultdict(set)
    counted = whole = 0
    for record in read(TABLE):
        assert isinstance(record, Record) and isinstance(record.outcome, Measured)
        split = record.method.get(Disaggregation)
        if record.provenance.campaign != "inferencex" or split is None:
            continue
        counted += record.setting.hardware.count is not None
        whole += 1
        told = record.method.get(Speculative) or record.method.get(Flags)
        if told and split.decode.workers and split.prefill.workers and record.method.engine_version:
            setting = record.setting
            key = (
                setting.model.name,
                setting.workload.canonical(),
                setting.hardware,
                record.method.canonical(),
            )
            same[key].add(record.outcome.metrics.tpot_s or 0.0)
    assert counted / whole > 0.85
    off = sorted(abs(log(v / median(values))) for values in same.values() if len(values) > 1 for v in values)
    assert len(off) > 100 and off[int(0.9 * len(off))] < 0.05
