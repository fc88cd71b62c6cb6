"""Run choosers and predictors over folds: in one process or several, and from where a killed run stopped."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from metainf.cluster import spread
from metainf.domain import BadInput, MetaInfError
from metainf.learn.accuracy import accuracy
from metainf.learn.contest import Entry
from metainf.learn.forecast import Learner
from metainf.learn.splits import By, Fold, folds
from metainf.learn.table import TEXTS, Table
from metainf.learn.views import (
    Options,
    Rules,
    Score,
    View,
    budgets,
    default_rank,
    judge,
    options,
    repeat_noise,
)

Progress = Callable[[str], None]
Result = dict[str, Any]
LEAST_CELLS = 5
HASHED = ("learn", "embed", "catalog")
TELLING = ("report", "figures", "summary", "evaluate", "over_time", "asked")
"""Files that only tell of results, or what is asked, which a part's key holds: a change of theirs leaves
finished parts valid."""


@dataclass(frozen=True)
class Task:
    """One source, one split, and the choosers and predictors that share fits."""

    rows: Table
    source: str
    by: By
    most_folds: int
    views: tuple[View, ...]
    entries: tuple[Entry, ...] = ()
    predictors: tuple[tuple[str, Callable[[], Learner]], ...] = ()

    @property
    def name(self) -> str:
        """What progress calls it."""
        names = [entry.name for entry in self.entries] or [f"errors of {name}" for name, _ in self.predictors]
        shown = names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more"]
        return f"{self.source} by {self.by}: {', '.join(shown)}"

    @property
    def key(self) -> str:
        """Changes with the records, the question and the code that answers it."""
        digest = hashlib.blake2b(code_hash().encode(), digest_size=16)
        names = [entry.name for entry in self.entries], [name for name, _ in self.predictors]
        digest.update(repr((self.source, self.by, self.most_folds, self.views, names)).encode())
        keys = {name: column for name, column in self.rows.keys.items() if name not in TEXTS}
        if any("text" in name for name in names[0]):
            digest.update(repr([self.rows.keys[name].tolist() for name in TEXTS]).encode())
        told = {"columns": self.rows.columns, "keys": keys, "metrics": self.rows.metrics}
        for part, columns in told.items():
            for name in sorted(columns):
                digest.update(f"{part} {name}".encode() + np.ascontiguousarray(columns[name]).tobytes())
        digest.update(self.rows.ok.tobytes())
        return digest.hexdigest()


@cache
def code_hash() -> str:
    """Hash of the package's own code, so that no result outlives the code that made it."""
    import metainf

    root = Path(metainf.__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for part in HASHED for path in (root / part).rglob("*.*")):
        if path.suffix in (".py", ".toml", ".csv", ".json") and path.stem not in TELLING:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def run(task: Task) -> Result:
    """Every chooser on every view, and every predictor on every metric. What cannot be run is noted."""
    held = list(folds(task.rows, task.by, task.most_folds))
    result: Result = {"views": {}, "notes": [], "errors": []}
    for view in task.views if task.entries else ():
        cases = _cases(task.rows, view, held)
        if sum(len(found.cells) for _, _, found in cases) < LEAST_CELLS:
            continue
        noise = repeat_noise(task.rows, view)
        ranks = [default_rank(test, found, task.rows) for _, test, found in cases]
        judged = [(*case, Rules(rank, noise)) for case, rank in zip(cases, ranks, strict=True)]
        seen, notes = _play(task.rows, view, judged, task.entries)
        result["notes"] += notes
        sizes = [len(found.cells) for _, _, found in cases]
        result["views"][view.name] = {
            "cells": sum(sizes), "folds": len(sizes), "noise": round(noise, 4),
            "options": sum(len(found.value) for _, _, found in cases), "choosers": seen,
            "moments": [_moment(fold, found) for fold, _, found in cases] if task.by == "rolling" else [],
        }  # fmt: skip
    for name, make in task.predictors:
        try:
            result["errors"] += [{"learner": name, **row} for row in accuracy(task.rows, held, make)]
        except MetaInfError as error:
            result["notes"].append({"view": "errors", "chooser": name, "why": str(error)})
    return result


def _moment(fold: Fold, found: Options) -> dict[str, Any]:
    """What is told of one date of a rolling split."""
    known = len(fold.train)
    return {"since": fold.since, "until": fold.until, "known": known, "cells": len(found.cells)}


def _cases(rows: Table, view: View, held: Sequence[Fold]) -> list[tuple[Fold, Table, Options]]:
    """Folds with something to choose on both sides."""
    tests = [(fold, rows.take(fold.test)) for fold in held]
    cases = [(fold, test, options(test, view)) for fold, test in tests]
    return [c for c in cases if len(c[2].value) and len(options(rows.take(c[0].train), view).value)]


def _play(
    rows: Table, view: View, cases: Sequence[Any], entries: Sequence[Entry]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What each chooser did in every case, as lists (`_told`: it saw only what is feasible), and who could
    not be run."""
    out: dict[str, dict[str, list[Any]]] = {entry.name: {} for entry in entries}
    notes, shift = [], 0
    for fold, test, found, rules in cases:
        train, allowed = rows.take(fold.train), budgets(found, view)
        for entry in [entry for entry in entries if entry.name in out]:
            try:
                chooser = entry.make()
                chooser.fit(train, view)
                untold = judge(found, allowed, chooser.score(test, found, False), False, rules)
                told = untold
                if view.limit:
                    told = judge(found, allowed, chooser.score(test, found, True), True, rules)
            except MetaInfError as error:
                del out[entry.name]
                why = f"{error} (fold {fold.name})"
                notes.append({"view": view.name, "chooser": entry.name, "why": why})
                continue
            for name, values in _lists((untold, told), found, shift).items():
                out[entry.name].setdefault(name, []).extend(values)
        shift += len(found.cells)
    return out, notes


def _lists(scores: tuple[Score, Score], found: Options, shift: int) -> dict[str, list[Any]]:
    untold, told = scores
    return {
        "cell": (untold.cell + shift).tolist(),
        "regret": np.round(untold.regret, 6).tolist(),
        "regret_told": np.round(told.regret, 6).tolist(),
        "hit": np.round(untold.hit, 4).tolist(),
        "hit_told": np.round(told.hit, 4).tolist(),
        "infeasible": np.round(untold.infeasible, 4).tolist(),
        "gain": [None if g != g else round(g, 6) for g in told.gain.tolist()],
        "clear": untold.clear.tolist(),
        "best": found.name[untold.best].tolist(),
        "pick": found.name[untold.pick].tolist(),
        "pick_told": found.name[told.pick].tolist(),
    }


class Ledger:
    """Finished tasks, one JSON line each. A line cut short by a killed run is left out."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done: dict[str, Result] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self.done[row["key"]] = row["result"]
                except (ValueError, KeyError, TypeError):
                    continue

    def add(self, key: str, result: Result) -> None:
        """Remember a result, on disk too where there is a path."""
        self.done[key] = result
        if self.path is not None:
            cut = self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n")
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if cut else "") + json.dumps({"key": key, "result": result}) + "\n")


def timed(task: Task) -> tuple[Result, float]:
    """The result of a task, and the processor seconds that it took."""
    started = time.process_time()
    return run(task), time.process_time() - started


def _timed_alike(given: tuple[Task, str]) -> tuple[Result, float]:
    """On a node of a cluster. BadInput where its code differs, for then its result would too."""
    task, code = given
    if code_hash() != code:
        raise BadInput("expected the same code of metainf on every node as here, found another: install it")
    return timed(task)


def run_all(
    tasks: Sequence[Task], jobs: int, ledger: Ledger, tell: Progress, ray: str | None = None
) -> Mapping[str, Result]:
    """Results by task key. Finished ones are read from the ledger; the others run in `jobs` processes, or on
    the Ray cluster at an address."""
    keys = {task.key: task for task in tasks}
    left = {key: task for key, task in keys.items() if key not in ledger.done}
    if len(left) < len(keys):
        tell(f"{len(keys) - len(left)} of {len(keys)} parts were finished before")
    started = time.perf_counter()
    for place, (key, (result, seconds)) in enumerate(_results(left, jobs, ray), 1):
        ledger.add(key, result)
        since = time.perf_counter() - started
        tell(f"{place} of {len(left)} after {since:.0f} s, {seconds:.0f} s of processor: {left[key].name}")
    return {key: ledger.done[key] for key in keys}


def follow(parent: int) -> None:
    """End this process within seconds after the parent process has ended, killed ones too."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _results(
    left: Mapping[str, Task], jobs: int, ray: str | None
) -> Iterator[tuple[str, tuple[Result, float]]]:
    if ray is not None:
        if left:
            yield from spread(ray, _timed_alike, {key: (task, code_hash()) for key, task in left.items()})
        return
    if jobs <= 1 or len(left) <= 1:
        for key, task in left.items():
            yield key, timed(task)
        return
    with ProcessPoolExecutor(
        min(jobs, len(left)), get_context("spawn"), initializer=follow, initargs=(os.getpid(),)
    ) as pool:
        waiting = {pool.submit(timed, task): key for key, task in left.items()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
