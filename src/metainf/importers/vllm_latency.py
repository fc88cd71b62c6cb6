"""`vllm bench latency --output-json`, keys of vLLM 0.33: seconds for one batch.

The file names neither batch, lengths nor hardware: the context does.
"""

from typing import Any

from metainf.importers.fields import block, number, some_metrics, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample

KEYS = {"avg_latency", "latencies", "percentiles"}


class VllmLatency(RunImporter):
    name = "vllm bench latency"

    def matches(self, sample: Sample) -> bool:
        return sample.first.keys() >= KEYS

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS

    def run(self, raw: Any) -> Run:
        percentiles = block(raw, "percentiles")
        metrics = {
            "e2e_s": number(raw, "avg_latency"),
            "e2e_p50_s": number(percentiles, "50"),
            "e2e_p90_s": number(percentiles, "90"),
            "e2e_p99_s": number(percentiles, "99"),
        }
        return Run(metrics=some_metrics(metrics), model=word(raw, "model_id"), engine="vllm")
