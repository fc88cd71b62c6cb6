"""Measured image and video runs as rows to learn from: one for each configuration, with its weight."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed import drawing
from metainf.embed.layout import text
from metainf.learn.table import Table

SIDES = ("model", "hardware", "pair")
"""What is new in a question: the model, the device, or only their pair."""


def measured(table: Table) -> NDArray[np.intp]:
    """Rows with a measured time of an image, of a known denoiser on a known device, not of a vendor's
    tuned system (whose method no field tells)."""
    times = np.isfinite(table.metrics["e2e_s"]) | np.isfinite(table.metrics["steps_per_s"])
    tuned = np.char.startswith(text(table.columns, "engine").astype(np.str_), "submitter:")
    return np.flatnonzero(table.ok & times & ~tuned & drawing.known(table.columns))


def merged(table: Table) -> Table:
    """Repeats of one configuration as one row: metrics `log_s` (log seconds per image and step), `whole`
    (decoding included) and `weight` (devices of a source share by the root of their rows)."""
    c, p = table.columns, drawing.picture(table.columns)
    whole = np.isfinite(table.metrics["e2e_s"])
    steps_per_s = table.metrics["steps_per_s"]
    counted = np.array(["webui" in name for name in text(c, "engine").tolist()])
    step = 1 / np.where(counted, steps_per_s, steps_per_s * p["batch"])
    log_s = np.log(np.where(whole, table.metrics["e2e_s"] / p["batch"] / p["steps"], step))
    sizes = [np.char.mod("%g", p[name]) for name in ("batch", "px", "steps")]
    parts = [table.keys["source"], table.keys["model"], table.keys["device"], table.keys["method"], *sizes]
    _, place = np.unique(np.array(["|".join(row) for row in zip(*parts, strict=True)]), return_inverse=True)
    order = np.lexsort((log_s, place))
    starts = np.flatnonzero(np.r_[True, np.diff(place[order]) > 0])
    counts = np.diff(np.r_[starts, len(order)])
    middle = order[starts + (counts - 1) // 2]
    found = table.take(middle)
    where = np.char.add(found.keys["source"], found.keys["device"])
    _, owner, rows = np.unique(where, return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(rows[owner.ravel()])
    metrics = {"log_s": log_s[middle], "whole": whole[middle] * 1.0, "weight": weight / weight.mean()}
    return Table(found.columns, metrics, found.ok, found.keys)


def groups_by_side(table: Table) -> dict[str, NDArray[Any]]:
    """The groups that are held out to judge each side."""
    model, device = table.keys["model_group"], table.keys["device"]
    pair = np.char.add(np.char.add(model, "|"), device)
    return {"model": model, "hardware": device, "pair": pair}
