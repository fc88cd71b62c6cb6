"""inference-perf lifecycle report (stage or summary), YAML or JSON: seconds, request counts, token rates.

The file names neither model, engine nor hardware: the context does.
"""

from typing import Any

from metainf.domain import BadInput, Workload
from metainf.importers.fields import block, lengths, number, rate, some_metrics, spread, whole
from metainf.importers.runs import Run, YamlImporter, all_failed
from metainf.importers.sample import Sample


class InferencePerf(YamlImporter):
    name = "inference-perf"

    def matches(self, sample: Sample) -> bool:
        if sample.objects:
            return self.understands(sample.first)
        lines = {line.partition(":")[0] for line in sample.beginning.splitlines()}
        return lines >= {"load_summary", "successes", "failures"}

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= {"load_summary", "successes", "failures"}

    def run(self, raw: Any) -> Run:
        good = block(raw, "successes")
        if "throughput" not in good:
            raise BadInput("successes: expected throughput, found none (a truncated file?)")
        count = number(good, "count")
        attempted = whole(raw, "load_summary.count")
        failed = all_failed(count, attempted)
        metrics = {
            "requests_per_s": number(good, "throughput.requests_per_sec"),
            "output_tokens_per_s": number(good, "throughput.output_tokens_per_sec"),
            "total_tokens_per_s": number(good, "throughput.total_tokens_per_sec"),
            **spread("ttft", good, "latency.time_to_first_token"),
            **spread("tpot", good, "latency.time_per_output_token"),
            **spread("itl", good, "latency.inter_token_latency"),
            **spread("e2e", good, "latency.request_latency"),
        }
        return Run(
            outcome=failed,
            metrics=None if failed else some_metrics(metrics),
            workload=Workload(
                name="inference-perf",
                input_tokens=lengths(good, "prompt_len"),
                output_tokens=lengths(good, "output_len"),
                concurrency=number(raw, "load_summary.concurrency"),
                request_rate_per_s=rate(raw, "load_summary.requested_rate"),
                num_requests=attempted,
            ),
        )
