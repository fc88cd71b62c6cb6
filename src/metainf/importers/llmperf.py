"""llmperf `*_summary.json` (token_benchmark_ray.py): flat keys, seconds, some numbers as text.

Its inter_token_latency is latency / tokens with the first token inside, no TPOT: it is left out.
"""

from typing import Any

from metainf.domain import Lengths, Workload
from metainf.importers.fields import number, some_metrics, whole, word
from metainf.importers.runs import Run, RunImporter, all_failed
from metainf.importers.sample import Sample

KEYS = {"mean_input_tokens", "num_concurrent_requests", "results_ttft_s_mean"}


class LlmPerf(RunImporter):
    name = "llmperf"

    def matches(self, sample: Sample) -> bool:
        return self.understands(sample.first)

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS

    def run(self, raw: Any) -> Run:
        completed = whole(raw, "results_num_completed_requests")
        failed = all_failed(completed, number(raw, "results_num_requests_started"))
        metrics = {
            "requests_per_s": number(raw, "results_num_completed_requests_per_min", 1 / 60),
            "output_tokens_per_s": number(raw, "results_mean_output_throughput_token_per_s"),
            **_times("ttft", raw, "ttft_s"),
            **_times("e2e", raw, "end_to_end_latency_s"),
        }
        return Run(
            outcome=failed,
            metrics=None if failed else some_metrics(metrics),
            workload=Workload(
                name="llmperf",
                input_tokens=_lengths(raw, "number_input_tokens"),
                output_tokens=_lengths(raw, "number_output_tokens"),
                concurrency=number(raw, "num_concurrent_requests"),
                num_requests=whole(raw, "results_num_requests_started"),
            ),
            model=word(raw, "model"),
        )


def _times(field: str, raw: Any, name: str) -> dict[str, float | None]:
    return {
        f"{field}_s": number(raw, f"results_{name}_mean"),
        **{f"{field}_p{p}_s": number(raw, f"results_{name}_quantiles_p{p}") for p in (50, 90, 99)},
    }


def _lengths(raw: Any, name: str) -> Lengths | None:
    mean = number(raw, f"results_{name}_mean")
    if mean is None:
        return None
    return Lengths(
        mean=mean,
        std=number(raw, f"results_{name}_stddev"),
        p50=number(raw, f"results_{name}_quantiles_p50"),
        p90=number(raw, f"results_{name}_quantiles_p90"),
        p99=number(raw, f"results_{name}_quantiles_p99"),
        max=number(raw, f"results_{name}_max"),
    )
