"""A sweep on one page: each method on each workload, how it compares, and how far to trust that. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Any

from metainf.domain import Failed, Record


@dataclass(frozen=True)
class Line:
    """A method on a workload over its repeats: medians; `low` and `high` are the slowest and the fastest.

    `ratio` is its throughput over that of the first method on the same workload, None of the first itself;
    `clear` tells whether their repeats do not overlap (None with a single repeat). `failed` is the first
    failure's reason, `failures` counts them, and the numbers are those of the repeats that did not fail.
    """

    method: str
    workload: str
    in_flight: float | None
    runs: int
    output_tokens_per_s: float | None
    low: float | None
    high: float | None
    ratio: float | None
    clear: bool | None
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    memory_gib: float | None
    prefix_hit_share: float | None
    accepted_share: float | None
    quality: float | None
    failed: str | None = None
    detail: str | None = None
    failures: int = 0
    ttft_p50_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_p50_s: float | None = None
    tpot_p99_s: float | None = None
    images_per_s: float | None = None
    steps_per_s: float | None = None
    energy_j_per_request: float | None = None
    quality_metric: str | None = None


SHOWN = (
    "ttft_s", "tpot_s", "e2e_s", "memory_gib", "prefix_hit_share", "accepted_share", "quality",
    "ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s", "output_tokens_per_s", "images_per_s",
    "steps_per_s", "energy_j_per_request",
)  # fmt: skip


def summary(records: Sequence[tuple[str, Record]]) -> list[Line]:
    """One line for each (workload, method), workloads and methods in the order of their first records."""
    groups: dict[Any, dict[str, list[Record]]] = {}
    for name, record in records:
        groups.setdefault(_task(record), {}).setdefault(name, []).append(record)
    lines = []
    for methods in groups.values():
        first: list[float] = []
        for name, runs in methods.items():
            speeds = _speeds(runs)
            lines.append(_line(name, runs, speeds, first))
            first = first or speeds
    return lines


def noise(records: Sequence[tuple[str, Record]]) -> float | None:
    """Relative spread of the throughput between repeats (standard deviation over mean, averaged over what
    was repeated); None without repeats."""
    groups: dict[Any, list[Record]] = {}
    for name, record in records:
        groups.setdefault((_task(record), name), []).append(record)
    spreads = [pstdev(s) / fmean(s) for runs in groups.values() if len(s := _speeds(runs)) > 1]
    return fmean(spreads) if spreads else None


def _task(record: Record) -> tuple[str | None, float | None, float | None]:
    work = record.setting.workload
    return work.name, work.concurrency, None if work.concurrency else work.request_rate_per_s


def _speeds(runs: Sequence[Record]) -> list[float]:
    """Tokens per second, or images per second of what draws."""
    found = [r.metrics.output_tokens_per_s or r.metrics.images_per_s for r in runs if r.metrics]
    return [speed for speed in found if speed]


def _line(name: str, runs: Sequence[Record], speeds: list[float], first: list[float]) -> Line:
    work = runs[0].setting.workload
    failure = next((r.outcome for r in runs if isinstance(r.outcome, Failed)), None)
    repeated = min(len(speeds), len(first)) > 1
    overlap = repeated and min(speeds) <= max(first) and min(first) <= max(speeds)
    return Line(
        method=name,
        workload=work.name or "",
        in_flight=work.concurrency,
        runs=len(runs),
        low=min(speeds, default=None),
        high=max(speeds, default=None),
        ratio=median(speeds) / median(first) if speeds and first else None,
        clear=not overlap if repeated else None,
        failed=None if failure is None else failure.reason,
        detail=None if failure is None else failure.detail,
        failures=sum(isinstance(r.outcome, Failed) for r in runs),
        quality_metric=next((r.metrics.quality_metric for r in runs if r.metrics), None),
        **{key: _median(runs, key) for key in SHOWN},
    )


def _median(runs: Sequence[Record], key: str) -> float | None:
    found = [getattr(run.metrics, key) for run in runs if run.metrics is not None]
    kept = [value for value in found if value is not None]
    return median(kept) if kept else None
