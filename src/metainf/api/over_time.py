"""Regret as time goes on and as runs become known: tables of two generated pages as data.

`python -m metainf.api.over_time docs/over_time.md docs/planning.md` makes the data that ships; a test holds
them together.
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from metainf.api.results import Rival
from metainf.domain import BadInput, Frozen

VIEW = re.compile(r"(?P<source>[^:]+): (?P<view>.+?)(?P<told>, told)?")
BEST = re.compile(r"(?P<regret>[\d.]+) \((?P<name>.+)\)")
SPAN = re.compile(r"(?P<low>[\d.]+) to (?P<high>[\d.]+)")
SHARE = re.compile(r"(?P<percent>[\d.]+)% of runs")


class Moment(Frozen):
    """One view of one source at one date: trained on the `known` rows of before `since`, judged on the cells
    measured from then until `until` (not given: to the end).

    Regret is 1 - value/best, averaged over the cells, with its 95 % interval; `told`: the choosers saw only
    what meets the budget. The rival was the best of the view over all dates, chosen after the fact.
    """

    source: str
    view: str
    told: bool
    since: str
    until: str | None = None
    known: int
    cells: int
    regret: float
    low: float
    high: float
    best_rival: Rival | None = None
    single_best_regret: float | None = None
    random_regret: float | None = None


class Revealed(Frozen):
    """Mean regret over the sources of the public history when a share of a machine's runs is known, by the
    rule that chose which. `known_before`: what was known of the machine before any run."""

    known_before: str
    rule: str
    share: float
    regret: float


class OverTime(Frozen):
    """Both series."""

    moments: tuple[Moment, ...]
    by_runs: tuple[Revealed, ...]


@cache
def over_time() -> OverTime:
    """What ships."""
    return OverTime.parse((files("metainf.learn") / "data" / "over_time.json").read_text(encoding="utf-8"))


def read_pages(dates: str, runs: str) -> OverTime:
    """Both tables, from the text of the page by dates and of the page by runs. BadInput where one is not
    there."""
    moments = [_moment(row) for row in _table(dates, "| view | from | until |")]
    by_runs = [
        {
            "known_before": row["known before"], "rule": row["rule"].strip("*"),
            "share": round(float(share["percent"]) / 100, 6), "regret": float(cell),
        }
        for row in _table(runs, "| known before | rule |")
        for name, cell in row.items()
        if (share := SHARE.fullmatch(name)) and cell != "–"
    ]  # fmt: skip
    return OverTime.of({"moments": moments, "by_runs": by_runs})


def _table(text: str, head: str) -> Iterator[dict[str, str]]:
    """Rows of the table whose first line begins so."""
    _, found, rest = text.partition(head)
    lines = [head + rest.partition("\n")[0], *rest.splitlines()[1:]] if found else []
    cells = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split(" | ")])
    if len(cells) < 3:
        raise BadInput(f"expected a page with a table that begins with `{head}`, found none")
    return (dict(zip(cells[0], row, strict=True)) for row in cells[2:])


def _moment(row: dict[str, str]) -> dict[str, Any]:
    title, span, best = (
        VIEW.fullmatch(row["view"]),
        SPAN.fullmatch(row["95 % interval"]),
        BEST.fullmatch(row["best rival"]),
    )
    if title is None or span is None:
        raise BadInput(f"expected a row of regret at a date, found {row['view']!r:.80}")
    rival = None if best is None else {"name": best["name"], "regret": float(best["regret"])}
    return {
        "source": title["source"], "view": title["view"], "told": title["told"] is not None,
        "since": row["from"], "until": None if row["until"] == "–" else row["until"],
        "known": int(row["rows known"]), "cells": int(row["cells"]), "regret": float(row["MetaInf"]),
        "low": float(span["low"]), "high": float(span["high"]), "best_rival": rival,
        "single_best_regret": _number(row["single best"]), "random_regret": _number(row["random"]),
    }  # fmt: skip


def _number(cell: str) -> float | None:
    return None if cell == "–" else float(cell)


if __name__ == "__main__":
    told = read_pages(*(Path(name).read_text(encoding="utf-8") for name in sys.argv[1:3]))
    parts = {
        name: [json.dumps(each, ensure_ascii=False) for each in rows]
        for name, rows in told.model_dump(mode="json", exclude_none=True).items()
    }
    shown = [f'"{name}": [\n' + ",\n".join(lines) + "\n]" for name, lines in parts.items()]
    print("{" + ",\n".join(shown) + "}")
