"""SGLang `bench_serving --output-file`, read for 0.4 - 0.5.23: one JSON object per run and line.

Latencies are in milliseconds; request_rate may be a bare Infinity; accept_length is null without drafting.
`concurrency` is the measured mean, used where neither max_concurrency nor a rate was set.
"""

from typing import Any

from metainf.domain import Workload
from metainf.importers.fields import at, flat_spread, mean_length, number, rate, some_metrics, whole, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample

KEYS = {"backend", "request_throughput", "output_throughput", "total_input_tokens", "completed"}
MARKS = {"random_range_ratio", "sharegpt_output_len", "total_output_tokens_retokenized"}
ENGINES = ("sglang", "vllm", "lmdeploy", "trt", "gserver", "truss")


class SglangServing(RunImporter):
    name = "sglang bench_serving"

    def matches(self, sample: Sample) -> bool:
        return self.understands(sample.first)

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS and bool(raw.keys() & MARKS)

    def run(self, raw: Any) -> Run:
        completed, paced = whole(raw, "completed"), rate(raw, "request_rate")
        backend = word(raw, "backend") or ""
        engine = next((engine for engine in ENGINES if backend.startswith(engine)), None)
        metrics = {
            "requests_per_s": number(raw, "request_throughput"),
            "output_tokens_per_s": number(raw, "output_throughput"),
            "total_tokens_per_s": number(raw, "total_throughput"),
            "accepted_tokens": number(raw, "accept_length"),
            **flat_spread("ttft", raw, "{}_ttft_ms", 1e-3),
            **flat_spread("tpot", raw, "{}_tpot_ms", 1e-3),
            **flat_spread("itl", raw, "{}_itl_ms", 1e-3),
            **flat_spread("e2e", raw, "{}_e2e_latency_ms", 1e-3),
        }
        return Run(
            metrics=some_metrics(metrics),
            workload=Workload(
                name=word(raw, "dataset_name"),
                input_tokens=mean_length(number(raw, "total_input_tokens"), completed),
                output_tokens=mean_length(number(raw, "total_output_tokens"), completed),
                concurrency=number(raw, "max_concurrency") or (None if paced else number(raw, "concurrency")),
                request_rate_per_s=paced,
                num_requests=completed,
            ),
            model=word(at(raw, "server_info"), "model_path"),
            engine="tensorrt-llm" if engine == "trt" else engine,
        )
