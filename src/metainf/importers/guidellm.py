"""guidellm JSON of 0.3 and of 0.4 - 0.8: one run per benchmark, statistics of successful requests.

request_latency is in seconds, the other latencies in milliseconds. guidellm's inter_token_latency is
(latency - TTFT) / (tokens - 1), which others call TPOT, and is read as that; its time_per_output_token
includes the first token and is left out. 0.3 counts tokens_per_second wrongly (it exceeds requests times
tokens), so the total rate of 0.3 is left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, Workload
from metainf.importers.fields import at, block, lengths, number, rate, some_metrics, spread, whole, word
from metainf.importers.runs import Run, RunImporter, all_failed
from metainf.importers.sample import Sample, json_values


class GuideLlm(RunImporter):
    name = "guidellm"

    def matches(self, sample: Sample) -> bool:
        found = sample.first.get("benchmarks")
        return isinstance(found, list) and all(isinstance(one, dict) and "metrics" in one for one in found)

    def runs(self, path: Path) -> Iterator[Any]:
        for document in json_values(path):
            if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
                raise BadInput(f"{path}: expected a guidellm report with benchmarks")
            version = word(document, "metadata.guidellm_version")
            for benchmark in document["benchmarks"]:
                yield {"version": version, "benchmark": benchmark}

    def run(self, raw: Any) -> Run:
        benchmark = block(raw, "benchmark")
        found = block(benchmark, "metrics")
        setup = block(benchmark, "config") or block(benchmark, "args")
        requests = block(found, "request_totals") or block(benchmark, "request_totals")
        failed = all_failed(number(requests, "successful"), number(requests, "total"))
        version = word(raw, "version")
        return Run(
            outcome=failed,
            metrics=None if failed else some_metrics(_metrics(found, old="config" not in benchmark)),
            workload=Workload(
                name="guidellm",
                input_tokens=lengths(found, "prompt_token_count.successful"),
                output_tokens=lengths(found, "output_token_count.successful"),
                num_requests=whole(requests, "total"),
                **_load(block(setup, "strategy"), number(requests, "total")),
            ),
            model=word(setup, "backend.model") or word(benchmark, "worker.backend_model"),
            tool=f"guidellm {version}" if version else None,
        )


def _metrics(found: Any, *, old: bool) -> dict[str, float | None]:
    return {
        "requests_per_s": number(found, "requests_per_second.successful.mean"),
        "output_tokens_per_s": number(found, "output_tokens_per_second.successful.mean"),
        "total_tokens_per_s": None if old else number(found, "tokens_per_second.successful.mean"),
        **spread("ttft", found, "time_to_first_token_ms.successful", 1e-3),
        **spread("tpot", found, "inter_token_latency_ms.successful", 1e-3),
        **spread("e2e", found, "request_latency.successful"),
    }


def _load(strategy: Any, requests: float | None) -> dict[str, Any]:
    """Closed loop for synchronous and concurrent runs, open loop for constant and Poisson rates.

    "throughput" sends all at once, as many as the tool allows.
    """
    kind = word(strategy, "type_")
    if kind == "synchronous":
        return {"concurrency": 1.0}
    if kind == "concurrent":
        return {"concurrency": number(strategy, "streams") or number(strategy, "max_concurrency")}
    if kind in ("constant", "poisson", "async"):
        return {"request_rate_per_s": rate(strategy, "rate")}
    if kind == "throughput":
        most, sent = number(strategy, "max_concurrency"), requests
        return {"concurrency": min(most, sent) if most and sent else most or sent}
    raise BadInput(f"strategy.type_: expected a known load, found {at(strategy, 'type_')!r}")
