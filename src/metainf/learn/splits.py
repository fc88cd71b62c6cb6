"""Hold-outs that keep what belongs together on one side.

A fold leaves out one group of a key: every alias of a model architecture, one device type, one
workload, or everything after a date. Where there are many groups, a fold may leave out several whole
ones. Rows that repeat a test row's measured values under another name
(one campaign published twice) are taken out of the training side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metainf.learn.relative import deal
from metainf.learn.table import Table

By = Literal["model", "hardware", "workload", "time"]
KEYS: dict[str, str] = {"model": "model_group", "hardware": "device", "workload": "workload"}
_TWIN_METRICS = ("output_tokens_per_s", "ttft_s", "tpot_s", "e2e_s", "energy_j_per_token", "images_per_s")


@dataclass(frozen=True)
class Fold:
    """Row numbers of one hold-out, and what was held out."""

    name: str
    train: NDArray[np.intp]
    test: NDArray[np.intp]


def folds(table: Table, by: By, most: int | None = None) -> Iterator[Fold]:
    """Folds of a table, at most `most`: whole groups are dealt to them, the largest first to the emptiest.

    A table with one group has none.
    """
    twins = _twins(table)
    if by == "time":
        yield from _by_time(table, twins)
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
    """One fold: about the last fifth of the dated rows, cut between two dates; cells stay whole and rows
    without a date, which may be later ones, teach nothing."""
    dates = table.keys["date"]
    dated = dates != ""
    if len(np.unique(dates[dated])) < 2:
        return
    ordered = np.sort(dates[dated])
    cut = ordered[int(0.8 * len(ordered))]
    if cut == ordered[0]:
        cut = ordered[ordered > cut][0]
    late = dated & (dates >= cut)
    held = np.isin(table.keys["cell"], table.keys["cell"][late])
    fold = _fold(f"from {cut}", late, twins)
    yield Fold(fold.name, fold.train[~held[fold.train] & dated[fold.train]], fold.test)


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
