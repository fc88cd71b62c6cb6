"""Real files of each tool, where they are at hand: recognised, read, nothing dropped."""

import os
from pathlib import Path

import pytest

from metainf.domain import Device, Model, Record, Rejected
from metainf.importers import Context, detect, read

SHARED = Path(os.environ.get("METAINF_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FORMATS = SHARED / "data" / "formats"
CONTEXT = Context(model=Model(name="m"), hardware=Device(name="d"), count=1, engine="vllm")
SAMPLES = {  # file: (format, records, rejected)
    "vllm/bench_serve_0.33.0.json": ("vllm-serve", 1, 0),
    "vllm/bench_serve_detailed_0.33.0.json": ("vllm-serve", 1, 0),
    "vllm/bench_throughput_0.33.0_reconstructed.json": ("vllm-throughput", 1, 0),
    "vllm/bench_latency_0.33.0_reconstructed.json": ("vllm-latency", 1, 0),
    "sglang/bench_serving_0.5.23.jsonl": ("sglang-serving", 1, 0),
    "sglang/bench_serving_details_0.5.23.jsonl": ("sglang-serving", 1, 0),
    "guidellm/benchmarks_0.8.1.json": ("guidellm", 3, 0),
    "guidellm/benchmarks_v0.3_stripped.json": ("guidellm", 1, 0),
    "guidellm/guidellm_report_v2_llmd_fixture.json": ("guidellm", 2, 0),
    "aiperf/profile_export_aiperf_0.13.0.json": ("aiperf", 1, 0),
    "genai_perf/profile_export_genai_perf_0.0.16.json": ("aiperf", 1, 0),
    "llama_bench/llama_bench_2023_schema.json": ("llama-bench", 2, 0),
    "llama_bench/llama_bench_2023_schema.csv": ("llama-bench", 0, 2),  # the header lacks a column
    "llama_bench/llama_bench_2025_schema.json": ("llama-bench", 2, 0),
    "llama_bench/llama_bench_2025_schema.csv": ("llama-bench", 1, 0),
    "llama_bench/llama_bench_2026_schema.json": ("llama-bench", 6, 0),
    "llama_bench/llama_bench_2026_schema.jsonl": ("llama-bench", 6, 0),
    "llama_bench/llama_bench_2026_schema.csv": ("llama-bench", 6, 0),
    "optimum_benchmark/benchmark.json": ("optimum-benchmark", 1, 0),
    "optimum_benchmark/benchmark_report.json": ("optimum-benchmark", 1, 0),
    "inferencex/agg_result_single_node.json": ("inferencex", 1, 0),
    "inference_perf/inference_perf_lifecycle.yaml": ("inference-perf", 1, 0),
    "llmd_benchmark_report/br_v0_1_example.yaml": ("llm-d-report", 1, 0),
    "llmd_benchmark_report/br_v0_2_example.yaml": ("llm-d-report", 1, 0),
    "mlperf/mlperf_log_summary.txt": ("mlperf", 1, 0),
    "llmperf/mock-model_200_32_summary.json": ("llmperf", 1, 0),
    "trtllm_bench/report_json_reconstructed.json": ("trtllm-bench", 1, 0),
    "trtllm_bench/report_json_reconstructed_nonstreaming_spec.json": ("trtllm-bench", 1, 0),
}

pytestmark = pytest.mark.skipif(
    not FORMATS.is_dir(), reason="the shared data folder is not beside the checkout"
)


@pytest.mark.parametrize("name", SAMPLES)
def test_real_files(name: str) -> None:
    format, records, rejected = SAMPLES[name]
    assert detect(FORMATS / name) == format
    found = list(read(FORMATS / name, context=CONTEXT))
    assert sum(isinstance(one, Record) for one in found) == records
    assert sum(isinstance(one, Rejected) for one in found) == rejected
    for one in found:
        assert not isinstance(one, Record) or Record.parse(one.canonical()) == one


def test_the_same_run_in_three_files_agrees() -> None:
    """The InferenceX file was made from the vLLM file, in seconds and per GPU."""
    paths = ("vllm/bench_serve_0.33.0.json", "inferencex/agg_result_single_node.json")
    first, second = (next(iter(read(FORMATS / path, context=CONTEXT))) for path in paths)
    assert isinstance(first, Record) and isinstance(second, Record) and first.metrics and second.metrics
    for field in ("ttft_s", "tpot_s", "itl_p99_s", "e2e_p50_s", "output_tokens_per_s", "total_tokens_per_s"):
        assert getattr(first.metrics, field) == pytest.approx(getattr(second.metrics, field)), field
