"""Files that the real tools wrote, read twice: by the importer, and here from the raw numbers of the file.

The README beside the fixtures says how each was made.
"""

import csv
import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from metainf.domain import Device, Metrics, Model, Precision, Record, WeightQuantization
from metainf.importers import Context, read
from metainf.testing.importer_suite import ImporterSuite

FIXTURES = Path(__file__).parent / "fixtures"
CPU = Context(model=Model(name="SmolLM2-135M-Instruct"), hardware=Device(name="cpu"), count=1, engine="vllm")
BARE = Context(hardware=Device(name="cpu"), engine="llama.cpp")


def only(suite: ImporterSuite, context: Context | None = None) -> tuple[Record, Metrics]:
    """The one record of a file and what it measured."""
    (record,) = read(suite.good, suite.format, context or suite.context)
    assert isinstance(record, Record) and record.metrics is not None
    return record, record.metrics


def document(suite: ImporterSuite) -> Any:
    return json.loads(suite.good.read_text())


def mean_of(record: Record) -> tuple[float, float]:
    """Mean input and output tokens of a request."""
    work = record.setting.workload
    assert work.input_tokens is not None and work.output_tokens is not None
    return work.input_tokens.mean, work.output_tokens.mean


class TestVllmServeOfVllm(ImporterSuite):
    format, good, context, rows = "vllm-serve", FIXTURES / "vllm_serve_0.32.real.json", CPU, 1

    def test_summaries_agree_with_the_requests(self) -> None:
        raw, (record, found) = document(self), only(self)
        assert found.e2e_s == pytest.approx(fmean(raw["latencies"]))
        assert found.e2e_p50_s == pytest.approx(median(raw["latencies"]))
        assert found.requests_per_s == pytest.approx(len(raw["latencies"]) / raw["duration"])
        assert found.output_tokens_per_s == pytest.approx(raw["total_output_tokens"] / raw["duration"])
        assert found.total_tokens_per_s == pytest.approx((256 + 64) / raw["duration"])
        assert mean_of(record) == (32, 8)
        assert record.setting.workload.concurrency == 2 and record.setting.workload.request_rate_per_s is None

    def test_it_names_engine_layout_and_hardware_itself(self) -> None:
        record, _ = only(self, Context(model=Model(name="m")))
        assert record.method.engine == "vllm" and record.setting.hardware.count == 1
        assert record.setting.hardware.device.name == "cpu" and record.provenance.date == "2026-11-21"

    def test_a_drafting_server_tells_its_acceptance(self, tmp_path: Path) -> None:
        path = tmp_path / "drafted.json"
        path.write_text(json.dumps(document(self) | {"spec_decode_acceptance_length": 2.25}))
        (record,) = read(path, context=CPU)
        assert isinstance(record, Record) and record.metrics and record.metrics.accepted_tokens == 2.25


class TestVllmServeDetailed(ImporterSuite):
    format, good, context, rows = "vllm-serve", FIXTURES / "vllm_serve_detailed_0.32.real.json", CPU, 1

    def test_summaries_agree_with_the_requests(self) -> None:
        raw, (record, found) = document(self), only(self)
        decode = [
            sum(gaps) / (count - 1) for gaps, count in zip(raw["itls"], raw["output_lens"], strict=True)
        ]
        assert found.ttft_s == pytest.approx(fmean(raw["ttfts"]))
        assert found.tpot_s == pytest.approx(fmean(decode), rel=1e-3)
        assert found.itl_s == pytest.approx(fmean(gap for gaps in raw["itls"] for gap in gaps))
        assert mean_of(record) == (fmean(raw["input_lens"]), fmean(raw["output_lens"]))
        assert record.setting.workload.request_rate_per_s == 2 and record.setting.workload.concurrency is None


class TestVllmServeOfLlamaCpp(ImporterSuite):
    format, good, context, rows = "vllm-serve", FIXTURES / "vllm_serve_0.32_llama_cpp.real.json", BARE, 1

    def test_an_openai_endpoint_names_no_engine(self) -> None:
        raw, (record, found) = document(self), only(self)
        assert raw["backend"] == "openai" and record.method.engine == "llama.cpp"
        assert found.ttft_s == pytest.approx(raw["mean_ttft_ms"] / 1000)
        assert mean_of(record) == (32, 63 / 8)


class TestVllmThroughput(ImporterSuite):
    format, good, context, rows = "vllm-throughput", FIXTURES / "vllm_throughput_0.32.real.json", CPU, 1

    def test_tokens_of_prompt_and_answer_count(self) -> None:
        raw, (record, found) = document(self), only(self)
        assert raw["total_num_tokens"] == 4 * (32 + 8)
        assert found.total_tokens_per_s == pytest.approx(raw["total_num_tokens"] / raw["elapsed_time"])
        assert found.output_tokens_per_s is None and record.setting.workload.num_requests == 4


class TestVllmLatency(ImporterSuite):
    format, good, context, rows = "vllm-latency", FIXTURES / "vllm_latency_0.32.real.json", CPU, 1

    def test_seconds_of_one_batch(self) -> None:
        raw, (_, found) = document(self), only(self)
        assert len(raw["latencies"]) == 3 and found.e2e_s == pytest.approx(fmean(raw["latencies"]))
        assert found.e2e_p50_s == pytest.approx(median(raw["latencies"]))


class TestSglangServing(ImporterSuite):
    format, good, context, rows = (
        "sglang-serving",
        FIXTURES / "sglang_serving_0.5.23.real.jsonl",
        CPU,
        1,
    )

    def test_units_and_an_infinite_rate(self) -> None:
        raw, (record, found) = document(self), only(self)
        assert raw["request_rate"] == float("inf") and record.setting.workload.request_rate_per_s is None
        assert found.total_tokens_per_s == pytest.approx((128 + 32) / raw["duration"])
        assert found.e2e_p50_s == pytest.approx(raw["median_e2e_latency_ms"] / 1000)
        assert found.tpot_s and found.e2e_s and found.ttft_s
        assert found.ttft_s + 7 * found.tpot_s == pytest.approx(found.e2e_s, rel=1e-3)
        assert mean_of(record) == (32, 8) and record.setting.workload.concurrency == 2


class TestGuideLlm(ImporterSuite):
    format, good, context, rows = "guidellm", FIXTURES / "guidellm_0.8.1.real.json", BARE, 1

    def test_summaries_agree_with_the_requests(self) -> None:
        (benchmark,), (record, found) = document(self)["benchmarks"], only(self)
        done, seconds = benchmark["requests"]["successful"], benchmark["duration"]
        assert found.requests_per_s == pytest.approx(len(done) / seconds)
        assert found.output_tokens_per_s == pytest.approx(sum(r["output_tokens"] for r in done) / seconds)
        assert found.total_tokens_per_s == pytest.approx(sum(r["total_tokens"] for r in done) / seconds)
        assert found.ttft_s == pytest.approx(fmean(r["time_to_first_token_ms"] for r in done) / 1000)
        assert found.e2e_s == pytest.approx(fmean(r["request_latency"] for r in done))
        after_first = [r["request_latency"] * 1000 - r["time_to_first_token_ms"] for r in done]
        latency = [ms / (r["output_tokens"] - 1) for ms, r in zip(after_first, done, strict=True)]
        assert found.tpot_s == pytest.approx(fmean(latency) / 1000, rel=0.01)
        assert mean_of(record) == (62, 8) and record.setting.workload.concurrency == 2
        assert record.setting.model.name.endswith("SmolLM2-135M-Instruct")


class TestAiPerf(ImporterSuite):
    format, good, context, rows = "aiperf", FIXTURES / "aiperf_0.13.0.real.json", BARE, 1

    def test_rates_agree_with_the_totals(self) -> None:
        raw, (record, found) = document(self), only(self)
        requests, seconds = raw["request_count"]["avg"], raw["benchmark_duration"]["avg"]
        assert raw["benchmark_duration"]["unit"] == "sec"
        assert found.requests_per_s == pytest.approx(requests / seconds, rel=0.01)
        assert found.output_tokens_per_s == pytest.approx(raw["total_osl"]["avg"] / seconds, rel=0.01)
        assert mean_of(record)[1] * requests == pytest.approx(raw["total_osl"]["avg"])
        assert found.ttft_s == pytest.approx(raw["time_to_first_token"]["avg"] / 1000)
        assert record.setting.workload.concurrency == 2 and found.power_w is None

    def test_power_and_energy_of_the_gpus_of_one_maker(self, tmp_path: Path) -> None:
        raw = document(self)
        raw["nvidia_total_gpu_power"] = {"unit": "W", "avg": 350.0}
        raw["nvidia_energy_per_output_token"] = {"unit": "mJ/token", "avg": 900.0}
        raw["nvidia_energy_per_request"] = {"unit": "joules/request", "avg": 7.2}
        raw["spec_decode_acceptance_length"] = {"unit": "ratio", "avg": 2.5}
        path = tmp_path / "watched.json"
        path.write_text(json.dumps(raw))
        (record,) = read(path, context=BARE)
        assert isinstance(record, Record) and record.metrics is not None
        found = record.metrics
        assert (found.power_w, found.energy_j_per_token, found.energy_j_per_request) == (350, 0.9, 7.2)
        assert found.accepted_tokens == 2.5


class TestLlamaBench(ImporterSuite):
    format, good, context, rows = (
        "llama-bench",
        FIXTURES / "llama_bench_0c1e570.real.json",
        Context(),
        2,
    )

    def test_speeds_agree_with_the_samples(self) -> None:
        raw = document(self)
        prompt, output = read(self.good)
        assert isinstance(prompt, Record) and isinstance(output, Record)
        assert prompt.metrics and output.metrics
        assert prompt.metrics.prefill_tokens_per_s == pytest.approx(fmean(raw[0]["samples_ts"]), rel=1e-4)
        assert output.metrics.output_tokens_per_s == pytest.approx(fmean(raw[1]["samples_ts"]), rel=1e-4)
        assert prompt.metrics.e2e_s == pytest.approx(fmean(raw[0]["samples_ns"]) * 1e-9)
        assert output.metrics.tpot_s == pytest.approx(1 / raw[1]["avg_ts"])

    def test_what_it_says_of_itself(self) -> None:
        record = next(iter(read(self.good)))
        assert isinstance(record, Record)
        assert record.method.engine_version == "0c1e570", "a tree without history has no build number"
        assert record.setting.model.name.endswith("SmolLM2-135M-Instruct")
        assert record.setting.hardware.count == 1 and "EPYC" in record.setting.hardware.device.name
        weights = record.method.get(WeightQuantization)
        assert weights is not None and weights.format == "Q4_1"
        assert record.method.get(Precision) is None


class TestLlamaBenchLines(ImporterSuite):
    format, good, context, rows = (
        "llama-bench",
        FIXTURES / "llama_bench_0c1e570.real.jsonl",
        Context(),
        2,
    )


class TestLlamaBenchCsv(ImporterSuite):
    format, good, context, rows = (
        "llama-bench",
        FIXTURES / "llama_bench_0c1e570.real.csv",
        Context(),
        2,
    )

    def test_cells_are_the_numbers_of_the_json(self) -> None:
        rows = list(csv.DictReader(self.good.read_text().splitlines()))
        found = [one for one in read(self.good) if isinstance(one, Record)]
        assert found[0].metrics is not None
        assert found[0].metrics.prefill_tokens_per_s == pytest.approx(float(rows[0]["avg_ts"]))
        kinds = [technique.kind for technique in found[0].method.techniques]
        assert "attention_backend" in kinds and "weight_quantization" in kinds
