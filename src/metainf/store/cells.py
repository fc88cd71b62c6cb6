"""Counted records: what a place of the performance tensor (model, workload, hardware, method) holds.

Records are only ever added, so what was counted stays true; the tables are filled by and by (`counting`) and
read in place of the records, which are too many to look through for each picture. A typical value is the
geometric mean of the records', for it adds up over places as a median does not.
"""

import json
import math
from collections.abc import Iterable
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


def _cells(name: str, *axes: str) -> sa.Table:
    keys = [sa.Column(axis, sa.BigInteger, primary_key=True, autoincrement=False) for axis in axes]
    return sa.Table(name, BESIDE, *keys, *_counts(), sqlite_with_rowid=False)


CELLS = _cells("metainf_cells", "source", "model", "method", "hardware", "workload")
"""Every place."""
HARDWARE_CELLS = _cells("metainf_hardware_cells", "hardware", "model", "method")
SOURCE_CELLS = _cells("metainf_source_cells", "source", "model", "method")
WORK_CELLS = _cells("metainf_work_cells", "model", "workload", "method")
MODEL_CELLS = _cells("metainf_model_cells", "model", "method")
"""The same with axes added up. The filter that narrows a picture most comes first in the key, so that reading
one is a walk along some rows and never a look at all of them."""
TALLIES = (CELLS, WORK_CELLS, HARDWARE_CELLS, SOURCE_CELLS, MODEL_CELLS)


def axes_of(table: sa.Table) -> tuple[str, ...]:
    """What a table is kept by."""
    return tuple(column.name for column in table.primary_key.columns)


COUNTS = tuple(column.name for column in _counts())
"""Names of what is added up, in the order of the columns."""


def summed(table: sa.Table, name: str) -> sa.ColumnElement[Any]:
    """One of COUNTS over several rows of a table."""
    if name.endswith("_best"):
        more = METRICS[name.removesuffix("_best")] == "more"
        return (sa.func.max if more else sa.func.min)(table.c[name])
    return sa.func.sum(table.c[name])


BLANK: list[Any] = [0] * (1 + len(REASONS)) + [0, None, None] * len(METRICS)
PLACES = {name: (COUNTS.index(f"{name}_count"), better == "more") for name, better in METRICS.items()}


class Seen(NamedTuple):
    """What is counted of one record: its codes in the order of AXES, the place of its failure among the
    counts, and of each metric its place, which way is better, and the value."""

    codes: tuple[int, ...]
    failed: int | None
    values: tuple[tuple[int, bool, float], ...]


def seen(codes: tuple[int, ...], failed_reason: str | None, outcome: str) -> Seen:
    """A record as it is stored, for counting."""
    if failed_reason is not None:
        known = failed_reason if failed_reason in REASONS else "unknown"
        return Seen(codes, 1 + REASONS.index(known), ())
    metrics = json.loads(outcome).get("metrics", {})
    return Seen(
        codes, None, tuple((*PLACES[name], value) for name, value in metrics.items() if name in PLACES)
    )


def add_up(records: Iterable[Seen], axes: tuple[str, ...]) -> list[list[Any]]:
    """Rows of a table of places: codes of the axes, then COUNTS. Pure."""
    found: dict[tuple[int, ...], list[Any]] = {}
    at = [AXES.index(axis) for axis in axes]
    for codes, failed, values in records:
        place = tuple(codes[axis] for axis in at)
        sums = found.get(place)
        if sums is None:
            sums = found[place] = BLANK.copy()
        sums[0] += 1
        if failed is not None:
            sums[failed] += 1
        for count, more, value in values:
            best = sums[count + 2]
            sums[count] += 1
            sums[count + 1] = (sums[count + 1] or 0.0) + math.log(value)
            if best is None or (value > best if more else value < best):
                sums[count + 2] = value
    return [[*place, *sums] for place, sums in sorted(found.items())]
