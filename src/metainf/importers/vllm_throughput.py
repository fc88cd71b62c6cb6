"""`vllm bench throughput --output-json`, keys of vLLM 0.33. tokens_per_second counts input and output.

The file names neither lengths nor layout nor hardware: the context does.
"""

from typing import Any

from metainf.domain import Workload
from metainf.importers.fields import number, some_metrics, whole, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample

KEYS = {"elapsed_time", "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second"}


class VllmThroughput(RunImporter):
    name = "vllm bench throughput"

    def matches(self, sample: Sample) -> bool:
        return sample.first.keys() >= KEYS

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS

    def run(self, raw: Any) -> Run:
        metrics = {
            "requests_per_s": number(raw, "requests_per_second"),
            "total_tokens_per_s": number(raw, "tokens_per_second"),
        }
        return Run(
            metrics=some_metrics(metrics),
            workload=Workload(num_requests=whole(raw, "num_requests")),
            model=word(raw, "model_id"),
            engine="vllm",
        )
