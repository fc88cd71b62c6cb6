"""Campaigns as studies of one machine: tasks, methods, what each run measured, and a prior that never saw
the machine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Method, Record, Setting
from metainf.learn.asked import views_of
from metainf.learn.contest import OURS, entries
from metainf.learn.places import Numbers, Places, places
from metainf.learn.splits import Fold, folds
from metainf.learn.table import Table
from metainf.learn.views import Floats, Options, View, options, value_of

SOURCES = (
    "aic_silicon", "argonne", "mlenergy_v3", "gpustack", "sdwebui", "diffusers_torchao", "lhl_strix_halo",
    "spec_bench",
)  # fmt: skip
LEAST_OPTIONS = 3
"""Methods that a task must have measured, so that there is a choice."""
LEAST_RUNS = 40
MOST_MACHINES = 4
"""Machines of a source, those with the most runs."""
Prior = Callable[[Table, Options, Sequence[Record]], Floats]


@dataclass(frozen=True)
class Study:
    """One machine: n places (a task and a method), the true log values, the runs that measured each, and
    what a prior says (log value, NaN where there is none). `keeps`: whether a place keeps the quality gate
    (None: there is none)."""

    source: str
    machine: str
    view: str
    where: Places
    pairs: tuple[tuple[Setting, Method], ...]
    truth: Floats
    runs: tuple[Floats, ...]
    prior: Floats
    keeps: NDArray[np.bool_] | None = None

    def kept(self, row: int) -> bool:
        """Whether a place keeps the quality gate."""
        return self.keeps is None or bool(self.keeps[row])

    @property
    def tasks(self) -> int:
        """How many choices there are."""
        return int(self.where.task.max()) + 1

    def take(self, tasks: Numbers) -> "Study":
        """Some of the tasks."""
        rows = np.flatnonzero(np.isin(self.where.task, tasks))
        return Study(
            self.source, self.machine, self.view, self.where.take(rows),
            tuple(self.pairs[row] for row in rows), self.truth[rows],
            tuple(self.runs[row] for row in rows), self.prior[rows],
            None if self.keeps is None else self.keeps[rows],
        )  # fmt: skip

    def sample(self, tasks: int, rng: np.random.Generator) -> "Study":
        """At most so many tasks, by chance."""
        return self.take(rng.choice(self.tasks, min(tasks, self.tasks), replace=False))


Keep = Callable[[Sequence[str], Callable[[], list[float]]], list[float]]
"""What makes a list of numbers under a key, or has it already."""


def studies(
    history: Table, records: Sequence[Record], source: str, keep: Keep = lambda _, make: make()
) -> Iterator[Study]:
    """The machines of a source under each of its views at fixed load (without those of one quality)."""
    mine = np.flatnonzero(history.keys["source"] == source)
    rows, few = history.take(mine), [records[row] for row in mine.tolist()]
    views = [view for view in views_of(source, "listed") if view.limit is None and view.quality == "any"]
    for view in views:
        found = options(rows, view, LEAST_OPTIONS)
        names, sizes = np.unique(rows.keys["device"][found.rows], return_counts=True)
        largest = names[np.argsort(-sizes, kind="stable")][:MOST_MACHINES]
        machines = sorted(set(largest.tolist()) & set(names[sizes >= LEAST_RUNS].tolist()))
        held = {fold.name: fold for fold in folds(rows, "hardware") if fold.name in machines}
        alone = Fold("", np.zeros(0, dtype=np.intp), np.arange(len(rows)))
        for name in machines:
            fold = held.get(name, alone)
            part = rows.take(fold.test), [few[row] for row in fold.test.tolist()]
            yield study(*part, view, name, kept(keep, (source, name, view.name), rows.take(fold.train), view))


def study(rows: Table, records: Sequence[Record], view: View, machine: str, prior: Prior) -> Study:
    """One machine's choices."""
    found = options(rows, view, LEAST_OPTIONS)
    few = [records[row] for row in found.rows.tolist()]
    value = np.log(value_of(rows, view))
    pairs = tuple((record.setting, record.method) for record in few)
    return Study(
        str(rows.keys["source"][0]), machine, view.name,
        places([pair[0] for pair in pairs], [pair[1] for pair in pairs], found.cell.tolist()), pairs,
        np.log(found.value), tuple(value[member] for member in found.members), prior(rows, found, few),
    )  # fmt: skip


def kept(keep: Keep, key: Sequence[str], train: Table, view: View) -> Prior:
    """`trained_on`, fitted only where its word is not kept."""
    made = trained_on(train, view)

    def prior(test: Table, found: Options, records: Sequence[Record]) -> Floats:
        said = keep(("prior", *key), lambda: made(test, found, records).tolist())
        return np.array(said, dtype=np.float64)

    return prior


def trained_on(train: Table, view: View) -> Prior:
    """MetaInf's chooser fitted on other machines of the source; says nothing where there are none."""

    def prior(test: Table, found: Options, _: Sequence[Record]) -> Floats:
        if not len(train):
            return np.full(len(found.value), np.nan)
        source = str(train.keys["source"][0])
        chooser = next(entry for entry in entries(source, "hardware") if entry.name == OURS).make()
        chooser.fit(train, view)
        return np.asarray(chooser.score(test, found, True)[:, 0])

    return prior
