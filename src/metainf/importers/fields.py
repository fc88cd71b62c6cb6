"""Cells of foreign files -> checked numbers.

A tool writes null, nothing or 0 where it measured nothing: all three give None. NaN, infinity, negative
numbers and words where a number belongs raise BadInput naming the field.
"""

import math
from collections.abc import Mapping
from typing import Any

from metainf.domain import BadInput, Lengths, Metrics

STATISTICS = {
    "": ("mean", "avg", "average"),
    "_p50": ("p50", "median"),
    "_p90": ("p90",),
    "_p99": ("p99",),
}


def at(row: Any, path: str) -> Any:
    """The value at a dotted path ("a.b.c"); None where a step is missing."""
    for step in path.split("."):
        if not isinstance(row, Mapping):
            return None
        row = row.get(step)
    return row


def block(row: Any, path: str) -> Mapping[str, Any]:
    """The object at a dotted path; an empty one where nothing or null stands. BadInput for anything else."""
    value = at(row, path)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadInput(f"{path}: expected an object, found {value!r:.60}")
    return value


def number(row: Any, path: str, scale: float = 1.0) -> float | None:
    """A number above 0 times `scale`; numbers written as text count."""
    value = at(row, path)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise BadInput(f"{path}: expected a number, found {value!r:.60}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"{path}: expected a number, found {value!r:.60}")
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"{path}: expected a finite number of at least 0, found {value!r}")
    return float(value) * scale or None


def whole(row: Any, path: str) -> int | None:
    """A whole number above 0."""
    value = number(row, path)
    if value is not None and value % 1:
        raise BadInput(f"{path}: expected a whole number, found {value!r}")
    return None if value is None else int(value)


def rate(row: Any, path: str) -> float | None:
    """A request rate per second; infinity ("all at once": a number, "inf") gives None."""
    value = at(row, path)
    if value == math.inf or (isinstance(value, str) and value.strip().lower() in ("inf", "infinity")):
        return None
    found = number(row, path)
    return None if found is not None and found > 1e9 else found


def word(row: Any, path: str) -> str | None:
    """A text; None where nothing stands."""
    value = at(row, path)
    if value is None or isinstance(value, Mapping | list):
        return None
    return str(value).strip() or None


def spread(name: str, stats: Any, path: str = "", scale: float = 1.0) -> dict[str, float]:
    """Metrics fields `<name>_s`, `<name>_p50_s` ... of a block of statistics (percentiles may be nested)."""
    found = block(stats, path) if path else stats or {}
    found = {**found, **block(found, "percentiles")}
    out = {}
    for suffix, keys in STATISTICS.items():
        key = next((key for key in keys if found.get(key) is not None), None)
        if key is None:
            continue
        try:
            value = number(found, key, scale)
        except BadInput as error:
            raise BadInput(f"{path or name}.{error}") from None
        if value is not None:
            out[f"{name}{suffix}_s"] = value
    return out


def flat_spread(name: str, row: Any, pattern: str, scale: float = 1.0) -> dict[str, float]:
    """The same where the statistics are flat keys: pattern "{}_ttft_ms" finds mean_ttft_ms, p99_ttft_ms."""
    out = {}
    for suffix, keys in STATISTICS.items():
        values = (number(row, pattern.format(key), scale) for key in keys)
        value = next((value for value in values if value is not None), None)
        if value is not None:
            out[f"{name}{suffix}_s"] = value
    return out


def lengths(stats: Any, path: str = "") -> Lengths | None:
    """Token counts from a block of statistics; None where it has no mean."""
    found = block(stats, path) if path else stats or {}
    found = {**found, **block(found, "percentiles")}
    names = {
        "mean": ("mean", "avg", "average"),
        "std": ("std", "stddev", "std_dev", "stdev"),
        "p50": ("p50", "median"),
        "p90": ("p90",),
        "p99": ("p99",),
        "max": ("max", "maximum"),
    }
    values: dict[str, Any] = {}
    for field, keys in names.items():
        key = next((key for key in keys if found.get(key) is not None), None)
        if key is not None:
            values[field] = number(found, key) or 0.0
    return Lengths(**values) if "mean" in values else None


def mean_length(total: float | None, requests: float | None) -> Lengths | None:
    """Mean token count of a request from totals; None where one is missing."""
    return Lengths(mean=total / requests) if total is not None and requests else None


def some_metrics(found: Mapping[str, float | None]) -> Metrics:
    """Metrics of what was measured. BadInput when that is nothing."""
    values: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    if not values:
        raise BadInput("the run has no measured number")
    return Metrics(**values)
