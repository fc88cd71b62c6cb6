"""The long Parquet table: lossless methods, honest rejections, and the real tables where they are at hand."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import (
    BadInput,
    Batching,
    Disaggregation,
    Failed,
    Flags,
    Measured,
    Pool,
    Precision,
    Record,
    Rejected,
    Speculative,
    WeightQuantization,
)
from metainf.importers import Context, read
from metainf.importers.long_table import LongTable, Reader
from metainf.importers.long_table_method import method_of
from metainf.testing.importer_suite import ImporterSuite

SHARED = Path(os.environ.get("METAINF_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TABLES = sorted((SHARED / "data" / "performance").glob("*.parquet"))
BASE: dict[str, Any] = {
    "source": "made_up",
    "subsource": "a",
    "licence": "MIT",
    "source_path": "x.csv",
    "date": "2026-01",
    "domain": "llm",
    "model": "example/model-7b",
    "model_params_b": 7.0,
    "dataset": "d|n=100",
    "input_len": 512.0,
    "output_len": 128.0,
    "concurrency": 8.0,
    "hardware": "Example GPU",
    "num_devices": 2.0,
    "engine": "vllm",
    "precision": "fp8",
    "quant": "fp8",
    "tp": 2.0,
    "status": "ok",
    "throughput_tok_s": 100.0,
    "ttft_s": 0.1,
    "memory_gb": 12.0,
    "derived": "throughput",
}
ROWS: list[dict[str, Any]] = [
    BASE,
    BASE,
    {**BASE, "tp": 1.0},
    {**BASE, "status": "oom", "throughput_tok_s": None, "ttft_s": None},
    {**BASE, "status": "failed", "throughput_tok_s": None, "ttft_s": None, "memory_gb": None},
    {**BASE, "ttft_s": float("inf")},
    {**BASE, "throughput_tok_s": -1.0},
    {**BASE, "ttft_s": None, "throughput_tok_s": None, "memory_gb": None},
    {**BASE, "hardware": "N/A"},
]


def one(**changes: Any) -> Record | Rejected:
    return Reader(Context()).record(0, {**BASE, **changes})


def good(**changes: Any) -> Record:
    found = one(**changes)
    assert isinstance(found, Record), found
    return found


@pytest.fixture(scope="module", autouse=True)
def table(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("long") / "made_up.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    TestLongTable.good = path


class TestLongTable(ImporterSuite):
    format, context, rows, rejected = "long-table", Context(), 9, 4

    def test_identical_rows_are_two_trials(self) -> None:
        first, second = list(read(self.good))[:2]
        assert isinstance(first, Record) and isinstance(second, Record)
        assert (first.provenance.trial, second.provenance.trial) == (0, 1)

    def test_reasons_name_the_column(self) -> None:
        reasons = [found.reason for found in read(self.good) if isinstance(found, Rejected)]
        assert ["ttft_s" in reasons[0], "throughput_tok_s" in reasons[1]] == [True, True]
        assert "no metric" in reasons[2] and "hardware" in reasons[3]

    def test_a_foreign_parquet_file_names_the_missing_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "foreign.parquet"
        pq.write_table(pa.table({"colour": ["green"]}), path)
        with pytest.raises(BadInput, match="source, model, hardware"):
            list(LongTable().read(path, Context()))

    def test_a_context_that_contradicts_the_table_is_refused(self) -> None:
        with pytest.raises(BadInput, match="engine"):
            list(LongTable().read(self.good, Context(engine="vllm")))


def test_metrics_workload_and_provenance() -> None:
    found = good()
    assert isinstance(found.outcome, Measured)
    assert found.outcome.metrics.output_tokens_per_s == 100 and found.outcome.metrics.memory_gib == 12
    assert found.outcome.derived == ("output_tokens_per_s",)
    assert found.setting.workload.num_requests == 100 and found.setting.hardware.count == 2
    assert found.provenance.campaign == "a" and found.provenance.location == "x.csv"


@pytest.mark.parametrize(
    "status, reason",
    [("oom", "out_of_memory"), ("unsupported", "unsupported"), ("failed", "unknown"), ("na", "unknown")],
)
def test_failures_stay(status: str, reason: str) -> None:
    outcome = good(status=status).outcome
    assert isinstance(outcome, Failed) and outcome.reason == reason
    assert outcome.detail is not None and "memory_gib=12" in outcome.detail


@pytest.mark.parametrize("column", ["ttft_s", "input_len", "concurrency", "num_devices", "tp", "memory_gb"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -2.0])
def test_no_number_no_record(column: str, value: float) -> None:
    found = one(**{column: value})
    assert isinstance(found, Rejected) and column in found.reason


def test_a_count_in_the_device_name_wins() -> None:
    assert good(hardware="4xExample GPU", num_devices=1.0).setting.hardware.count == 4
    assert good(num_devices=None).setting.hardware.count is None


def test_an_unknown_number_of_devices_survives_canonical_json() -> None:
    found = good(num_devices=None)
    assert Record.parse(found.canonical()).setting.hardware.count is None


def test_pools_of_a_split_run() -> None:
    found = good(
        disagg=True, tp=None, num_devices=None, other_method="Pnanxtp8.0ep8.0dpa1.0/D3.0xtp1.0ep4.0dpa4.0"
    ).method
    assert found.get(Disaggregation) == Disaggregation(
        prefill=Pool(tensor=8, expert=8, attention_data=False),
        decode=Pool(workers=3, tensor=4, expert=4, attention_data=True),
    )
    assert found.get(Flags) is None
    short = good(disagg=True, other_method="P1D3").method
    assert short.get(Disaggregation) == Disaggregation(prefill=Pool(workers=1), decode=Pool(workers=3))


def test_the_accuracy_target_of_mlperf_is_part_of_the_workload() -> None:
    names = [
        good(model=f"example-7b-{target}", dataset="mlperf:Server").setting.workload.name
        for target in ("99", "99.9")
    ]
    assert names == ["mlperf:Server@99", "mlperf:Server@99.9"]


@pytest.mark.parametrize("name", ["N/A", "0GB 0GB", "16GB", "error:no driver", "", None])
def test_a_nameless_device_rejects_the_row(name: str | None) -> None:
    found = one(hardware=name)
    assert isinstance(found, Rejected) and found.reason.startswith("hardware")


def test_technique_columns() -> None:
    method = good(
        precision="bfloat16",
        quant="int8dq",
        batching="n_batch=16",
        spec_decode="EAGLE3,speculative-num-steps=4,speculative-num-draft-tokens=16",
        other_method="--async-scheduling --max-num-batched-tokens 4096",
        kv_cache="lmcache",
    ).method
    assert method.get(Precision) == Precision(dtype="bf16")
    assert method.get(Batching) == Batching(mode="none", max_tokens=16)
    assert method.get(Speculative) == Speculative(algorithm="eagle3", tokens=16)
    flags = method.get(Flags)
    assert flags is not None and set(flags.values) == {
        *("kv_cache=lmcache", "--async-scheduling", "--max-num-batched-tokens 4096"),
        "--speculative-num-steps=4",
    }
    draft = good(spec_decode="draft:JackFram/llama-68m:3.0").method.get(Speculative)
    assert draft == Speculative(algorithm="draft", draft_model="JackFram/llama-68m", tokens=3)
    four, eight = (good(precision=p, quant=p.lower()).method for p in ("GPTQ (Int4)", "GPTQ (Int8)"))
    found = [method.get(WeightQuantization) for method in (four, eight)]
    assert [quant and (quant.format, quant.bits) for quant in found] == [("gptq", 4.0), ("gptq", 8.0)]


DEGREE = st.sampled_from([None, 1.0, 2.0, 4.0, 8.0])
CELLS = st.fixed_dictionaries(
    {
        **dict.fromkeys(("tp", "pp", "ep", "dp"), DEGREE),
        "kv_dtype": st.sampled_from([None, "fp8", "int8"]),
        "attention_backend": st.sampled_from([None, "default", "fa3", "xformers"]),
        "batching": st.sampled_from([None, "continuous", "n_batch=16", "b256"]),
        "prefix_cache": st.sampled_from([None, "on", "off"]),
        "chunked_prefill": st.sampled_from([None, "on:default", "on:4096", "off"]),
        "torch_compile": st.sampled_from([None, True, False]),
        "fused_qkv": st.sampled_from([None, True, False]),
        "spec_decode": st.sampled_from([None, "none", "EAGLE3", "Medusa", "draft:m:3.0"]),
        "kv_cache": st.sampled_from([None, "With KV Cache", "Without KV Cache"]),
        "memory_mode": st.sampled_from([None, "medvram", "lowvram"]),
        "other_method": st.sampled_from([None, "autocast", "--a --b 1"]),
        "quant": st.sampled_from([None, "fp8", "nvfp4", "awq", "Q4_K_M", "bf16"]),
    }
)


@given(CELLS, CELLS)
def test_two_methods_are_equal_only_where_their_columns_are(a: dict[str, Any], b: dict[str, Any]) -> None:
    first, second = (method_of({"engine": "vllm", **cells}) for cells in (a, b))
    assert (first.id == second.id) == (a == b)


@pytest.mark.skipif(not TABLES, reason="the shared data folder is not beside the checkout")
class TestRealTables:
    def test_every_row_is_kept_or_rejected_and_no_two_methods_collide(self) -> None:
        rows, ids = 0, set[str]()
        for path in TABLES:
            found = list(LongTable().read(path, Context()))
            columns = pq.read_table(path, columns=["cell_id", "method_id"]).to_pylist()
            assert len(found) == len(columns)
            rows += len(found)
            same: dict[tuple[str, str], set[str]] = defaultdict(set)
            kept = 0
            for record, said in zip(found, columns, strict=True):
                if isinstance(record, Record):
                    kept += 1
                    method = record.method.model_copy(update={"engine_version": None})
                    if "; stated " not in (record.provenance.location or ""):  # restored rows do merge
                        same[said["cell_id"], method.id].add(said["method_id"])
                    ids.add(record.id)
            assert not {key: methods for key, methods in same.items() if len(methods) > 1}, path.name
            assert kept >= 0.85 * len(found), path.name
        assert len(ids) > 0.95 * rows
