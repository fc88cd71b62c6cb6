"""MLPerf inference `mlperf_log_summary.txt` (LoadGen): text, latencies in nanoseconds.

Rates are "Samples per second" (Offline) or "Completed samples per second" (Server), tokens likewise. A run
that is not VALID, or that measured accuracy, is rejected. Model, hardware and engine come from the context.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, Workload
from metainf.importers.fields import number, some_metrics, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample, text_of

LINE = re.compile(r"^\s*([^:=*]+?)\s*:\s*(\S.*?)\s*$")
TIMES = {"ttft": "first token latency", "tpot": "time to output token", "e2e": "latency"}
NS = 1e-9
END = re.compile(r"errors? encountered", re.IGNORECASE)


class MlPerf(RunImporter):
    name = "mlperf loadgen"

    def matches(self, sample: Sample) -> bool:
        return "MLPerf Results Summary" in sample.beginning

    def runs(self, path: Path) -> Iterator[Any]:
        for part in text_of(path).split("MLPerf Results Summary")[1:]:
            found: dict[str, Any] = {}
            for match in filter(None, map(LINE.match, part.splitlines())):
                found.setdefault(match[1].lower().replace("(ns)", "").strip().replace(".", "_"), match[2])
            yield {**found, "whole": bool(END.search(part))}

    def run(self, raw: Any) -> Run:
        result, mode = word(raw, "result is"), word(raw, "mode")
        if result is None or mode is None or not raw["whole"]:
            raise BadInput("expected a whole summary, found a part of it missing (a truncated file?)")
        if mode != "PerformanceOnly":
            raise BadInput(f"mode: expected PerformanceOnly, found {mode!r}")
        if result != "VALID":
            raise BadInput(f"the run is {result}: MLPerf does not count it")
        metrics: dict[str, float | None] = {
            "requests_per_s": number(raw, "completed samples per second")
            or number(raw, "samples per second"),
            "output_tokens_per_s": number(raw, "completed tokens per second")
            or number(raw, "tokens per second"),
        }
        for field, label in TIMES.items():
            metrics[f"{field}_s"] = number(raw, f"mean {label}", NS)
            for percent in (50, 90, 99):
                metrics[f"{field}_p{percent}_s"] = number(raw, f"{percent}_00 percentile {label}", NS)
        scenario = (word(raw, "scenario") or "").capitalize()
        open_loop = scenario in ("Server", "Interactive")
        return Run(
            metrics=some_metrics(metrics),
            workload=Workload(
                name=f"mlperf:{scenario}",
                request_rate_per_s=number(raw, "target_qps") if open_loop else None,
            ),
        )
