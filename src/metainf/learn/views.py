"""Two views of a history as a choice: at a fixed load, and with load and devices free under a budget.

A *case* is one choice: a cell and, in the budget view, one budget. Its options are the distinct
configurations measured there, repeats merged by their median. Regret is 1 − value/best; a pick that
breaks the budget has value 0. *Told* means that the chooser is shown only what meets the budget.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metainf.learn.table import Table

Floats = NDArray[np.float64]
QUANTILES = (0.25, 0.5, 0.75)
NOISE = 0.02


@dataclass(frozen=True)
class View:
    """What is chosen for: `value` to maximise (a name below), `limit` to stay under (None: fixed load)."""

    value: Literal[
        "tokens_per_s_per_device", "speed", "energy", "images_per_s", "steps_per_s", "prefill", "speedup"
    ]
    limit: Literal["tpot_s", "e2e_s"] | None = None
    options: Literal["family", "method"] = "method"

    @property
    def name(self) -> str:
        """Readable name of the view."""
        return f"{self.value} under {self.limit}" if self.limit else f"{self.value} at fixed load"


@dataclass(frozen=True)
class Options:
    """m options in g cells. `members[i]` are the table rows merged into option i."""

    cell: NDArray[np.intp]
    members: tuple[NDArray[np.intp], ...]
    name: NDArray[Any]
    value: Floats
    limit: Floats

    @property
    def rows(self) -> NDArray[np.intp]:
        """One row of the table for each option."""
        return np.array([member[0] for member in self.members], dtype=np.intp)

    @property
    def cells(self) -> list[NDArray[np.intp]]:
        """Option numbers of each cell."""
        order = np.argsort(self.cell, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.cell[order])) + 1) if len(order) else []

    def merged(self, values: Floats) -> Floats:
        """A number per option from a number per row: the median over the option's rows."""
        return np.array([np.median(values[member]) for member in self.members])


def value_of(table: Table, view: View) -> Floats:
    """The value to maximise, per row; NaN where the row does not measure it."""
    metrics, devices = table.metrics, table.columns["num_devices"]
    if view.value == "tokens_per_s_per_device":
        return np.asarray(metrics["output_tokens_per_s"] / devices)
    if view.value == "energy":
        tokens, requests = metrics["energy_j_per_token"], metrics["energy_j_per_request"]
        return np.asarray(1 / np.where(np.isfinite(tokens), tokens, requests))
    if view.value == "speed":
        return np.asarray(1 / metrics["tpot_s"])
    column = {"prefill": "prefill_tokens_per_s"}.get(view.value, view.value)
    return np.asarray(metrics[column])


def load_of(table: Table) -> Floats:
    """Requests in flight: the concurrency, else the batch size."""
    concurrency = table.columns["concurrency"]
    return np.where(np.isfinite(concurrency), concurrency, table.columns["batch_size"])


def options(table: Table, view: View) -> Options:
    """The choices that a table holds under a view. Cells with too few options are left out."""
    value = value_of(table, view)
    limit = table.metrics[view.limit] if view.limit else np.zeros(len(table))
    rows = np.flatnonzero(np.isfinite(value) & np.isfinite(limit) & table.ok)
    cells = table.keys["free_cell" if view.limit else "cell"][rows]
    parts = [table.keys[view.options], table.columns["num_devices"].astype(str)]
    if view.limit:
        parts.append(load_of(table).astype(str))
    names = np.array(["|".join(str(part[row]) for part in parts) for row in rows], dtype=np.str_)
    members: dict[tuple[str, str], list[int]] = {}
    for row, cell, name in zip(rows.tolist(), cells.tolist(), names.tolist(), strict=True):
        members.setdefault((cell, name), []).append(row)
    sizes: dict[str, int] = {}
    for cell, _ in members:
        sizes[cell] = sizes.get(cell, 0) + 1
    least = 4 if view.limit else 2
    kept = sorted(key for key in members if sizes[key[0]] >= least)
    number = {cell: place for place, cell in enumerate(dict.fromkeys(cell for cell, _ in kept))}
    groups = tuple(np.array(members[key], dtype=np.intp) for key in kept)
    return Options(
        np.array([number[cell] for cell, _ in kept], dtype=np.intp),
        groups,
        np.array([name for _, name in kept], dtype=np.str_),
        np.array([np.median(value[group]) for group in groups]),
        np.array([np.median(limit[group]) for group in groups]),
    )


def budgets(found: Options, view: View) -> Floats:
    """Budgets (m options, k): the quartiles of the limits measured in the option's own cell."""
    result = np.full((len(found.value), len(QUANTILES) if view.limit else 1), np.inf)
    if view.limit:
        for cell in found.cells:
            result[cell] = np.quantile(found.limit[cell], QUANTILES)
    return result


@dataclass(frozen=True)
class Score:
    """Outcome of a chooser over all cases (cell × budget), one entry each."""

    regret: Floats
    hit: NDArray[np.bool_]
    infeasible: NDArray[np.bool_]
    clear: NDArray[np.bool_]
    cell: NDArray[np.intp]
    best: NDArray[np.intp]
    pick: NDArray[np.intp]


def judge(found: Options, allowed: Floats, scores: Floats, told: bool) -> Score:
    """Judge the picks that maximise `scores` (m, k). `clear` marks cases whose best two options differ
    by more than NOISE, where accuracy means something."""
    out: dict[str, list[Any]] = {name: [] for name in Score.__dataclass_fields__}
    for number, cell in enumerate(found.cells):
        for budget in range(scores.shape[1]):
            within = found.limit[cell] <= allowed[cell, budget]
            value = np.where(within, found.value[cell], 0.0)
            wanted = np.where(within, scores[cell, budget], -np.inf) if told else scores[cell, budget]
            pick, best = int(np.argmax(wanted)), int(np.argmax(value))
            top = np.sort(value)[-2:]
            out["regret"].append(1 - value[pick] / value[best])
            out["hit"].append(value[pick] >= value[best] * (1 - 1e-9))
            out["infeasible"].append(not within[pick])
            out["clear"].append(top[0] < top[1] * (1 - NOISE))
            out["cell"].append(number)
            out["best"].append(cell[best])
            out["pick"].append(cell[pick])
    kinds = {
        "hit": bool,
        "infeasible": bool,
        "clear": bool,
        "cell": np.intp,
        "best": np.intp,
        "pick": np.intp,
    }
    return Score(**{name: np.array(values, dtype=kinds.get(name, float)) for name, values in out.items()})


def macro_f1(true: NDArray[Any], guess: NDArray[Any]) -> float:
    """Macro-averaged F1 over the options that were ever best."""
    scores = []
    for label in np.unique(true):
        hits = np.sum((true == label) & (guess == label))
        scores.append(2 * hits / (np.sum(true == label) + np.sum(guess == label)))
    return float(np.mean(scores)) if scores else float("nan")
