"""Regret over time: what was chosen at each of several dates by what was known then."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metainf.learn.contest import OURS, SINGLE
from metainf.learn.summary import bootstrap

Line = Mapping[str, Any]
TITLE = "## Regret over time"
LEAST_CELLS = 5
"""A date with fewer cells is left out: its mean would say nothing."""
COLUMNS = (
    "view",
    "from",
    "until",
    "rows known",
    "cells",
    OURS,
    "95 % interval",
    "best rival",
    SINGLE,
    "random",
)
HEAD = """# Regret over time

This page is written by `metainf evaluate --by rolling --report docs/over_time.md` from the records in a
store; none of its numbers is typed by hand. The dated records of a source are cut at up to {folds} dates that
leave about as many rows between them. At each date every learner is trained on what was known before it, and
judged on the cells that were measured from then until the next date. A cell that is judged teaches nothing,
nor does a row that repeats its values under another name, nor one whose date is a year or a span.
[results.md](results.md) says what cells, views, regret and *told* are.
"""
ABOUT = """Each line is one date of one view. *Rows known* are those trained on; the *interval* is a 95 %
bootstrap interval over the cells of that date. The *best rival* is the one that was best in the view over all
dates, chosen after the fact. Regret need not fall with time: what comes later may be harder (new devices, new
engines), and the single best method and random picking beside it say by how much. Dates with fewer than
{least} cells are left out.
"""


def moments(choosers: Mapping[str, Any], view: Line, parts: Sequence[Line]) -> list[dict[str, Any]]:
    """Mean regret at each date. `choosers`: what each did, as the runner keeps it; `view`: its section, whose
    `paired` names the best rival; `parts`: the dates, each with its number of cells, in their order."""
    found = []
    for mark in ("regret", "regret_told") if view["limited"] else ("regret",):
        pair = view["paired"].get(mark, {}).get("rival")
        named = [OURS, SINGLE, "random", *([pair["name"]] if pair else [])]
        start = 0
        for part in parts:
            end = start + part["cells"]
            if part["cells"] >= LEAST_CELLS:
                lines = {name: _mean(choosers[name], mark, start, end) for name in named if name in choosers}
                rival = pair["name"] if pair else None
                found.append({**part, "mark": mark, "rival": rival, "regret": lines})
            start = end
    return found


def _mean(acts: Line, mark: str, start: int, end: int) -> list[float]:
    """Mean over the cases of the cells from start up to end, and its interval."""
    cell, values = np.array(acts["cell"]), np.array(acts[mark])
    here = (cell >= start) & (cell < end)
    return [round(float(each), 4) for each in (values[here].mean(), *bootstrap(values[here], cell[here]))]


def rows(views: Sequence[Line]) -> list[tuple[Any, ...]]:
    """Lines of the table, in the order of COLUMNS."""
    found = []
    for view in views:
        for one in view.get("moments", ()):
            told = ", told" if one["mark"] == "regret_told" else ""
            regret = one["regret"]
            if OURS not in regret:
                continue
            ours, low, high = regret[OURS]
            rival = f"{regret[one['rival']][0]:.3f} ({one['rival']})" if one["rival"] else None
            found.append((
                f"{view['source']}: {view['view']}{told}", one["since"], one["until"] or None, one["known"],
                one["cells"], ours, f"{low:.3f} to {high:.3f}", rival,
                *(regret[name][0] if name in regret else None for name in (SINGLE, "random")),
            ))  # fmt: skip
    return found
