"""The nearest measured records of a question: what a prediction can be held against."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metainf.domain import Record
from metainf.embed.columns import Columns
from metainf.learn.table import Table
from metainf.learn.views import Floats, load_of

AXES = (
    ("params_b", 1.0), ("active_params_b", 1.5), ("memory_bandwidth_gb_per_s", 1.0), ("bf16_tflops", 1.0),
    ("num_devices", 1.0), ("input_tokens", 0.5), ("output_tokens", 0.5), ("load", 1.0), ("weight_bits", 1.0),
)  # fmt: skip
ENGINE_GAP = 1.0
MOST = 1500


def coordinates(columns: Columns, load: Floats) -> Floats:
    """Log coordinates (n, axes), weighted; unknown numbers are NaN."""
    values = [load if name == "load" else columns[name] for name, _ in AXES]
    logs = [np.log(np.where(value > 0, value, np.nan)) for value in values]
    return np.stack([weight * log for log, (_, weight) in zip(logs, AXES, strict=True)], axis=1)


def index(table: Table, records: Sequence[Record]) -> dict[str, Any]:
    """JSON-able index of measured text-generation records, spread evenly when there are many."""
    keep = np.flatnonzero(np.isfinite(table.metrics["tpot_s"]) & np.isfinite(load_of(table)))
    if len(keep) > MOST:
        keep = keep[np.linspace(0, len(keep) - 1, MOST).astype(int)]
    few = table.take(keep)
    points = np.round(np.nan_to_num(coordinates(few.columns, load_of(few)), nan=-99.0), 3)
    return {
        "points": points.tolist(),
        "engines": few.columns["engine"].tolist(),
        "told": [_told(records[row]) for row in keep.tolist()],
    }


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The records of two indices; one that is empty has no points."""
    return {key: [*one.get(key, ()), *other.get(key, ())] for key in ("points", "engines", "told")}


def nearest(found: dict[str, Any], columns: Columns, load: float, count: int = 3) -> list[tuple[str, ...]]:
    """The closest records of each row of `columns`, in words, each with its id."""
    engines = columns["engine"].tolist()
    if not found["told"]:
        return [()] * len(engines)
    points, known_engines = np.array(found["points"]), np.array(found["engines"])
    told: list[tuple[str, ...]] = []
    for here, engine in zip(coordinates(columns, np.full(len(engines), load)), engines, strict=True):
        known = (points > -90) & np.isfinite(here)
        gap = np.where(known, (points - np.nan_to_num(here)) ** 2, 1.0).sum(axis=1)
        gap += np.where(known_engines == engine, 0.0, ENGINE_GAP)
        told.append(tuple(found["told"][row] for row in np.argsort(gap, kind="stable")[:count]))
    return told


def _told(record: Record) -> str:
    setting, metrics = record.setting, record.metrics
    assert metrics is not None
    work = setting.workload
    lengths = "/".join(
        f"{side.mean:g}" for side in (work.input_tokens, work.output_tokens) if side is not None
    )
    numbers = [f"TPOT {metrics.tpot_s * 1e3:.3g} ms" if metrics.tpot_s else ""]
    numbers.append(f"TTFT {metrics.ttft_s:.3g} s" if metrics.ttft_s else "")
    return (
        f"{setting.model.name} on {setting.hardware.count or '?'}× {setting.hardware.device.name}, "
        f"{record.method.engine}, {lengths} tokens at {work.concurrency or work.batch_size or 0:g}: "
        f"{', '.join(filter(None, numbers))} ({record.provenance.source}, {record.id[:15]})"
    )
