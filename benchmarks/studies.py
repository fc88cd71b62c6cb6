"""Held-out campaigns as studies of one machine: tasks, methods, what each run measured, and a prior that
never saw the machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from metainf.domain import Record
from metainf.learn.contest import OURS, entries, views_of
from metainf.learn.local import Numbers, Places, places
from metainf.learn.splits import Fold, folds
from metainf.learn.table import Table
from metainf.learn.views import Floats, View, options, value_of

SOURCES = (
    "aic_silicon", "argonne", "mlenergy_v3", "gpustack", "sdwebui", "diffusers_torchao", "lhl_strix_halo",
    "spec_bench",
)  # fmt: skip
LEAST_OPTIONS = 3
"""Methods that a task must have measured, so that there is a choice."""
LEAST_RUNS = 40
MOST_MACHINES = 4
"""Machines of a source, those with the most runs."""


@dataclass(frozen=True)
class Study:
    """One machine: n places (a task and a method), the true log values, the runs that measured each, and
    what a prior trained without this machine says (log value, NaN where there is none)."""

    source: str
    machine: str
    view: str
    where: Places
    truth: Floats
    runs: tuple[Floats, ...]
    prior: Floats

    def take(self, tasks: Numbers) -> "Study":
        """Some of the tasks."""
        rows = np.flatnonzero(np.isin(self.where.task, tasks))
        return Study(
            self.source, self.machine, self.view, self.where.take(rows), self.truth[rows],
            tuple(self.runs[row] for row in rows), self.prior[rows],
        )  # fmt: skip


def studies(history: Table, records: Sequence[Record], source: str) -> Iterator[Study]:
    """The machines of a source under each of its views at fixed load (one quality is left out)."""
    mine = np.flatnonzero(history.keys["source"] == source)
    rows, few = history.take(mine), [records[row] for row in mine.tolist()]
    views = [view for view in views_of(source, "listed") if view.limit is None and view.quality == "any"]
    for view in views:
        found = options(rows, view, LEAST_OPTIONS)
        machine = rows.keys["device"][found.rows]
        names, sizes = np.unique(machine, return_counts=True)
        largest = names[np.argsort(-sizes, kind="stable")][:MOST_MACHINES]
        kept = set(largest[np.isin(largest, names[sizes >= LEAST_RUNS])].tolist())
        held = {fold.name: fold for fold in folds(rows, "hardware") if fold.name in kept}
        alone = Fold("", np.zeros(0, dtype=np.intp), np.arange(len(rows)))
        for name in sorted(kept):
            yield study(rows, few, view, name, held.get(name, alone))


def study(rows: Table, records: Sequence[Record], view: View, machine: str, fold: Fold) -> Study:
    """One machine's choices; the prior is fitted on the training side of the fold."""
    test = rows.take(fold.test)
    found = options(test, view, LEAST_OPTIONS)
    few = [records[fold.test[row]] for row in found.rows.tolist()]
    value = np.log(value_of(test, view))
    prior = np.full(len(found.value), np.nan)
    if len(fold.train):
        ours = next(entry for entry in entries(rows.keys["source"][0], "hardware") if entry.name == OURS)
        chooser = ours.make()
        chooser.fit(rows.take(fold.train), view)
        prior = chooser.score(test, found, True)[:, 0]
    where = places([record.setting for record in few], [record.method for record in few], found.cell)
    runs = tuple(value[member] for member in found.members)
    return Study(str(rows.keys["source"][0]), machine, view.name, where, np.log(found.value), runs, prior)
