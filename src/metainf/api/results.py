"""How the shipped predictor was judged: the table of the results page as data.

`python -m metainf.api.results docs/results.md` makes the data that ships; a test holds the two together.
"""

import json
import re
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

from metainf.domain import BadInput, Frozen

TITLE = re.compile(r"(?P<source>[^:]+): (?P<view>.+), (?P<out>unseen \w+|after a date)(?P<told>, told)?")
BEST = re.compile(r"(?P<regret>[\d.]+) \((?P<name>.+)\)")
VERDICT = re.compile(r"(?P<word>better|worse|even) (?P<difference>\S+) \((?P<low>\S+) to (?P<high>\S+)\)")


class Rival(Frozen):
    """The best of a kind, chosen after the fact."""

    name: str
    regret: float


class Judged(Frozen):
    """One view of one source with one thing left out. Regret is 1 - value/best, averaged over cells.

    `told`: the choosers saw only what meets the budget. `difference` is that to the best rival, with its
    95 % interval; `verdict` follows from the interval.
    """

    source: str
    view: str
    left_out: str
    told: bool
    cells: int
    regret: float
    best_xgboost: Rival | None = None
    best_baseline: Rival | None = None
    single_best_regret: float
    gap: float | None = None
    verdict: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@cache
def results() -> tuple[Judged, ...]:
    """What the shipped results say."""
    text = (files("metainf.learn") / "data" / "results.json").read_text(encoding="utf-8")
    return tuple(Judged.of(row) for row in json.loads(text))


def read_page(text: str) -> tuple[Judged, ...]:
    """The rows of the table `In one table` of a results page. BadInput where it has none."""
    _, found, rest = text.partition("## In one table\n")
    lines = [line for line in rest.split("\n#")[0].splitlines() if line.startswith("|")]
    if not found or len(lines) < 3:
        raise BadInput("expected a results page with the section `In one table`, found none")
    return tuple(_row([cell.strip() for cell in line.strip("|").split(" | ")]) for line in lines[2:])


def _row(cells: list[str]) -> Judged:
    title = TITLE.fullmatch(cells[0])
    if title is None or len(cells) != 8:
        raise BadInput(f"expected a row of the results page, found {cells[0]!r:.80}")
    verdict = VERDICT.fullmatch(cells[7].replace("**", ""))
    told = {} if verdict is None else verdict.groupdict()
    found = {
        "source": title["source"], "view": title["view"], "left_out": title["out"].removeprefix("unseen "),
        "told": title["told"] is not None, "cells": int(cells[1]), "regret": float(cells[2].strip("*")),
        "best_xgboost": _rival(cells[3]), "best_baseline": _rival(cells[4]),
        "single_best_regret": float(cells[5]), "gap": _number(cells[6]), "verdict": told.get("word"),
        "difference": _number(told.get("difference")), "low": _number(told.get("low")),
        "high": _number(told.get("high")),
    }  # fmt: skip
    return Judged.of(found)


def _rival(cell: str) -> dict[str, str | float] | None:
    found = BEST.fullmatch(cell)
    return None if found is None else {"name": found["name"], "regret": float(found["regret"])}


def _number(cell: str | None) -> float | None:
    return None if cell in (None, "–") else float(cell)


if __name__ == "__main__":
    rows = read_page(Path(sys.argv[1]).read_text(encoding="utf-8"))
    shown = [json.dumps(row.model_dump(mode="json", exclude_none=True), ensure_ascii=False) for row in rows]
    print("[\n" + ",\n".join(shown) + "\n]")
