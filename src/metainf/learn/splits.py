"""Hold-outs that keep what belongs together on one side.

A fold leaves out one group of a key: every alias of a model architecture, one device type, one
workload, or everything after a date; or ("rolling") it is one of several dates, judged up to the next one.
Where there are many groups, a fold may leave out several whole ones. Rows that repeat a test row's measured
values under another name (one campaign published twice) are taken out of the training side.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metainf.learn.relative import deal
from metainf.learn.table import Table

By = Literal["model", "hardware", "workload", "time", "rolling"]
ROLLING = 8
"""Dates of a rolling split, where no number is named."""
WHEN = re.compile(r"\d{4}-\d{2}(-\d{2}(T.*)?)?")
"""Dates that say the month at least: a year or a span of months is neither before nor after a day in it."""
KEYS: dict[str, str] = {"model": "model_group", "hardware": "device", "workload": "workload"}
_TWIN_METRICS = ("output_tokens_per_s", "ttft_s", "tpot_s", "e2e_s", "energy_j_per_token", "images_per_s")


@dataclass(frozen=True)
class Fold:
    """Row numbers of one hold-out, and what was held out; of a cut in time, from when and until when (the
    first date after it, or none)."""

    name: str
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    since: str = ""
    until: str = ""


def folds(table: Table, by: By, most: int | None = None) -> Iterator[Fold]:
    """Folds of a table, at most `most`: whole groups are dealt to them, the largest first to the emptiest.

    A table with one group has none.
    """
    twins = _twins(table)
    if by == "time":
        yield from _by_time(table, twins)
        return
    if by == "rolling":
        yield from _rolling(table, twins, most or ROLLING)
        return
    groups = table.keys[KEYS[by]]
    names = np.unique(groups)
    if len(names) < 2:
        return
    if most is None or len(names) <= most:
        for name in names:
            yield _fold(str(name), groups == name, twins)
        return
    fold = deal(groups, most)
    for number in range(int(fold.max()) + 1):
        held = np.unique(groups[fold == number])
        yield _fold(f"{held[0]} and {len(held) - 1} more", fold == number, twins)


def _by_time(table: Table, twins: NDArray[Any]) -> Iterator[Fold]:
    """One fold: about the last fifth of the dated rows, cut between two dates."""
    dates = table.keys["date"]
    dated = dates != ""
    if len(np.unique(dates[dated])) < 2:
        return
    ordered = np.sort(dates[dated])
    cut = ordered[int(0.8 * len(ordered))]
    if cut == ordered[0]:
        cut = ordered[ordered > cut][0]
    yield _between(table, twins, dated, str(cut))


def _rolling(table: Table, twins: NDArray[Any], most: int) -> Iterator[Fold]:
    """A fold for each of `most` dates or fewer, that leave about as many rows between them: what was known
    then, judged on what came until the next date."""
    dates = table.keys["date"]
    dated = np.array([WHEN.fullmatch(each) is not None for each in dates.tolist()], dtype=bool)
    if not dated.any():
        return
    ordered = np.sort(dates[dated])
    cuts = np.unique(ordered[[int(len(ordered) * (k + 1) / (most + 1)) for k in range(most)]])
    if cuts[0] == ordered[0]:
        later = ordered[ordered > cuts[0]]
        cuts = np.unique([*cuts[1:], *later[:1]])
    ends = [*cuts.tolist(), ""]
    for since, until in pairwise(ends):
        yield _between(table, twins, dated, since, until)


def _between(
    table: Table, twins: NDArray[Any], dated: NDArray[np.bool_], since: str, until: str = ""
) -> Fold:
    """What was known before a date, and what came then. Cells stay whole, and rows without a date, which may
    be later ones, teach nothing."""
    dates = table.keys["date"]
    late = dated & (dates >= since)
    if until:
        late &= dates < until
    held = np.isin(table.keys["cell"], table.keys["cell"][late])
    before = dated & (dates < since) & ~held
    fold = _fold(f"from {since}" + (f" to {until}" if until else ""), late, twins)
    return Fold(fold.name, fold.train[before[fold.train]], fold.test, since, until)


def _fold(name: str, test: NDArray[np.bool_], twins: NDArray[Any]) -> Fold:
    repeated = np.isin(twins, twins[test])
    return Fold(name, np.flatnonzero(~test & ~repeated), np.flatnonzero(test))


def _twins(table: Table) -> NDArray[Any]:
    """Number of each distinct measurement: rows with equal values of all metrics share one."""
    values = np.stack([table.metrics[name] for name in _TWIN_METRICS], axis=1)
    _, twin = np.unique(np.round(np.nan_to_num(values, nan=-1.0), 9), axis=0, return_inverse=True)
    twin = np.asarray(twin).ravel()
    blank = ~np.isfinite(values).any(axis=1)
    return np.where(blank, -1 - np.arange(len(twin)), twin)
