"""This machine's own runs as studies: every method that was tried in every cell, and what kept the gate.

A task is a model, a workload and a number of requests in flight; methods go by their recipes, so `static` is
one method whether it means batches of 4 or of 16. What is admitted is as in docs/study.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from studies import Study
from tuning import candidate

from metainf.api.planning import prior_of
from metainf.domain import Record
from metainf.learn.places import Numbers, places
from metainf.learn.views import Floats
from metainf.measure.asked import LEAST_AGREEMENT
from metainf.measure.earlier import aim_of
from metainf.measure.order import unversioned
from metainf.measure.plan import Known
from metainf.measure.recipes import PLAIN
from metainf.study.bench import bench_of, in_grid, name_of
from metainf.study.benches import benches

ELSEWHERE = "another machine"
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Own(Study):
    """Places of one model on one machine. `names`: the engine and the recipe of each; a place whose runs all
    failed has none (`runs` empty, truth −inf). `cells`: workload and requests in flight of each task."""

    names: tuple[tuple[str, str], ...] = ()
    cells: tuple[tuple[str, int], ...] = ()

    @property
    def gate(self) -> Flags:
        """Places that keep the quality gate."""
        assert self.keeps is not None
        return self.keeps

    @property
    def works(self) -> Flags:
        """Places that may be chosen: they ran and keep the gate."""
        return np.isfinite(self.truth) & self.gate

    @property
    def engines(self) -> list[str]:
        return sorted({engine for engine, _ in self.names})

    def only(self, rows: Numbers | Flags) -> "Own":
        """Some of the places, in tasks that still have a choice."""
        some = np.arange(len(self.where))[rows]
        tasks = self.where.task[some]
        some = some[np.bincount(tasks, minlength=self.tasks)[tasks] > 1]
        kept = np.unique(self.where.task[some])
        return replace(
            self, where=self.where.take(some), truth=self.truth[some], prior=self.prior[some],
            keeps=self.gate[some], cells=tuple(self.cells[task] for task in kept.tolist()),
            pairs=tuple(self.pairs[row] for row in some), runs=tuple(self.runs[row] for row in some),
            names=tuple(self.names[row] for row in some),
        )  # fmt: skip

    def of_engine(self, engine: str) -> "Own":
        """The places of one engine."""
        return self.only(np.array([name == engine for name, _ in self.names]))

    def of_several(self) -> "Own":
        """The tasks that more than one engine ran."""
        engines: dict[int, set[str]] = {}
        for task, (engine, _) in zip(self.where.task.tolist(), self.names, strict=True):
            engines.setdefault(task, set()).add(engine)
        return self.only(np.array([len(engines[task]) > 1 for task in self.where.task.tolist()]))

    def lessons(self, task: int) -> list[Known]:
        """What all places of other workloads show, as runs of another machine: contrasts, and no levels."""
        mine, found = self.cells[task][0], list[Known]()
        for row, other in enumerate(self.where.task.tolist()):
            if self.cells[other][0] != mine:
                one = replace(candidate(self, row), machine=ELSEWHERE)
                shown = float(np.mean(self.runs[row])) if len(self.runs[row]) else None
                found.append(Known(one, shown, self.kept(row)))
        return found

    def untold(self, task: int) -> list[Known]:
        """The lessons of engines of which the forecast is silent: those that `metainf tune` takes."""
        told = {engine for (engine, _), said in zip(self.names, self.prior, strict=True) if np.isfinite(said)}
        return [known for known in self.lessons(task) if known.candidate.method.engine not in told]


def own_studies(records: Sequence[Record], least: float = LEAST_AGREEMENT) -> list[Own]:
    """One study for each model on each device. Raises BadInput where no record is of a study."""
    gates = {(b.engine, b.model, b.weights, b.hardware): b for b in benches(records, least)}
    groups: dict[tuple[str, str], dict[tuple[str, int], dict[tuple[str, str], list[Record]]]] = {}
    for record in filter(in_grid, records):
        work, setting = record.setting.workload, record.setting
        cell = str(work.name), int(work.concurrency or 0)
        tasks = groups.setdefault((setting.hardware.device.name, setting.model.name), {})
        place = record.method.engine, name_of(record)
        tasks.setdefault(cell, {}).setdefault(place, []).append(record)
    found = []
    for (device, _), tasks in sorted(groups.items()):
        every = [
            (cell, place, runs)
            for cell, some in sorted(tasks.items())
            for place, runs in sorted(some.items())
        ]
        number = {cell: code for code, cell in enumerate(sorted(tasks))}
        firsts = [runs[0] for _, _, runs in every]
        pairs = tuple((one.setting, unversioned(one.method)) for one in firsts)
        shown = [[r.metrics.output_tokens_per_s for r in runs if r.metrics] for _, _, runs in every]
        logs = tuple(np.log([value for value in values if value]) for values in shown)
        study = Own(
            "metainf", device, "output tokens per second",
            places([s for s, _ in pairs], [m for _, m in pairs], [f"{number[c]:04}" for c, _, _ in every]),
            pairs, np.array([np.median(each) if len(each) else -np.inf for each in logs]), logs,
            forecast(firsts), np.array([gates[bench_of(one)].admitted(name_of(one)) for one in firsts]),
            tuple(place for _, place, _ in every), tuple(sorted(tasks)),
        )  # fmt: skip
        found.append(study.only(np.ones(len(every), dtype=np.bool_)))
    return found


def forecast(records: Sequence[Record]) -> Floats:
    """What `metainf tune` takes of the shipped predictor for each: log tokens per second; NaN where it is
    silent."""
    prior, said = prior_of(aim_of("throughput")), np.full(len(records), np.nan)
    groups: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        groups.setdefault(record.setting.id, []).append(i)
    for rows in groups.values():
        told = prior(records[rows[0]].setting, [records[i].method for i in rows])
        said[rows] = [np.nan if value is None else value for value, _ in told]
    return said


@dataclass(frozen=True)
class Fixed:
    """One method for all tasks of a study: `log_value` of each task (NaN where its engine was not measured);
    where it failed, was not run or is not admitted it counts as the engine's baseline. `ran` counts tasks
    in which it ran and may be chosen."""

    name: tuple[str, str]
    log_value: Floats
    ran: int
    admitted: bool


def fixed(study: Own) -> list[Fixed]:
    """Every method as the only one."""
    task, found = study.where.task, []
    for name in dict.fromkeys(study.names):
        plain = np.full(study.tasks, np.nan)
        mine = np.full(study.tasks, np.nan)
        for row, other in enumerate(study.names):
            if other == (name[0], PLAIN) and study.works[row]:
                plain[task[row]] = study.truth[row]
            if other == name and study.works[row]:
                mine[task[row]] = study.truth[row]
        rows = [row for row, other in enumerate(study.names) if other == name]
        admitted = any(study.kept(row) for row in rows)
        value = np.where(np.isfinite(mine), mine, plain)
        found.append(Fixed(name, value, int(np.isfinite(mine).sum()), admitted))
    return found
