"""Counted records: what a place of the performance tensor (model, workload, hardware, method) holds.

Records are only ever added, so what was counted stays true; the tables are filled by and by (`counting`) and
read in place of the records, which are too many to look through for each picture. A typical value is the
geometric mean of the records', for it adds up over places as a median does not.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from metainf.store.beside import BESIDE
from metainf.store.tables import SEQ, TEXT

Better = Literal["more", "less"]
METRICS: dict[str, Better] = {
    "output_tokens_per_s": "more",
    "ttft_s": "less",
    "tpot_s": "less",
    "e2e_s": "less",
    "requests_per_s": "more",
    "prefill_tokens_per_s": "more",
    "images_per_s": "more",
    "steps_per_s": "more",
    "energy_j_per_token": "less",
}
"""What is added up, and which way is better."""
REASONS = ("out_of_memory", "unsupported", "crashed", "timed_out", "unknown")
AXES = ("model", "workload", "hardware", "method", "source")

AXIS = sa.Table(
    "metainf_axes",
    BESIDE,
    sa.Column("code", SEQ, primary_key=True, autoincrement=True),
    sa.Column("axis", TEXT, nullable=False),
    sa.Column("id", TEXT, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("part_of", TEXT),
    sa.Column("records", sa.BigInteger, nullable=False),
    sa.Index("metainf_axes_id", "axis", "id", unique=True),
)
"""What stands along the tensor: models and sources by name, the rest by the id of a part. `part_of` is the
device of a hardware and the engine of a method."""

COUNTED = sa.Table(
    "metainf_counted",
    BESIDE,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
"""One row: the last record that was counted."""


def _counts() -> list[sa.Column[Any]]:
    found: list[sa.Column[Any]] = [sa.Column("records", sa.BigInteger, nullable=False)]
    found += [sa.Column(f"failed_{reason}", sa.BigInteger, nullable=False) for reason in REASONS]
    for name in METRICS:
        found.append(sa.Column(f"{name}_count", sa.BigInteger, nullable=False))
        found += [sa.Column(f"{name}_{what}", sa.Float) for what in ("log", "best")]
    return found


def _codes(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False) for name in names]


BY_SOURCE = ("source", "model", "method", "hardware", "workload")
BY_MODEL = ("model", "method", "hardware")
CELLS = sa.Table(
    "metainf_cells", BESIDE, *_codes(*BY_SOURCE), *_counts(), sqlite_with_rowid=False
)  # fmt: skip
"""Every place of every source."""
MODEL_CELLS = sa.Table(
    "metainf_model_cells", BESIDE, *_codes(*BY_MODEL), *_counts(), sqlite_with_rowid=False
)  # fmt: skip
"""The same over all workloads and sources: what the first picture is made of."""
TALLIES: tuple[tuple[sa.Table, tuple[str, ...]], ...] = ((CELLS, BY_SOURCE), (MODEL_CELLS, BY_MODEL))


class Seen(NamedTuple):
    """What is counted of one record: its codes by axis, its outcome as it is stored."""

    codes: dict[str, int]
    failed_reason: str | None
    outcome: str


@dataclass
class Sums:
    """The sums of one place."""

    records: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def add(self, reason: str | None, values: dict[str, float]) -> None:
        """Count one record."""
        self.records += 1
        if reason is not None:
            self.failed[reason] = self.failed.get(reason, 0) + 1
        for name, value in values.items():
            count, log, best = self.metrics.get(name, (0, 0.0, value))
            best = max(best, value) if METRICS[name] == "more" else min(best, value)
            self.metrics[name] = count + 1, log + math.log(value), best

    def row(self) -> dict[str, Any]:
        """Column values."""
        told: dict[str, Any] = {"records": self.records}
        told |= {f"failed_{reason}": self.failed.get(reason, 0) for reason in REASONS}
        for name in METRICS:
            count, log, best = self.metrics.get(name, (0, None, None))
            told |= {f"{name}_count": count, f"{name}_log": log, f"{name}_best": best}
        return told


def add_up(seen: Iterable[Seen], axes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a table of places for some records. Pure."""
    found: dict[tuple[int, ...], Sums] = {}
    for one in seen:
        place = tuple(one.codes[axis] for axis in axes)
        sums = found.setdefault(place, Sums())
        if one.failed_reason is not None:
            sums.add(one.failed_reason if one.failed_reason in REASONS else "unknown", {})
            continue
        metrics = json.loads(one.outcome).get("metrics", {})
        sums.add(None, {name: metrics[name] for name in METRICS if metrics.get(name)})
    return [dict(zip(axes, place, strict=True)) | sums.row() for place, sums in sorted(found.items())]
