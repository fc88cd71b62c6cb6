"""A study of this machine's own runs: what choosing on it costs with none, a tenth and half of them known.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_local.py --write docs/closing_the_loop.md

The study that ships, or the records of a study in another store. Takes some minutes on one core.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from local_page import PAGE, fixed_lines, known_lines, trained_lines, tune_lines
from own_study import Own, fixed, own_studies
from own_training import judged, others_move
from planning import OURS, PICKERS, beliefs, curve
from planning_page import lines
from tuning import Tuned, candidate, tuned

from metainf.domain import Record
from metainf.learn.views import Floats
from metainf.measure.asked import LEAST_AGREEMENT
from metainf.measure.plan import Known, picture
from metainf.store import open_store
from metainf.study.bench import of_study
from metainf.study.parts import shipped

SHARES = (0.1, 0.5)
FORECAST, NOTHING, TAUGHT = "the forecast", "nothing", "the other workloads"
BOTH = "both"
CLEAR = 0.02
"""Values that differ by less are as good as each other for top-1."""
SEEDS, TUNES = 20, 4


@dataclass(frozen=True)
class Learnt:
    """Choices after some runs: top-1 and regret, one number for each split."""

    group: str
    before: str
    way: str
    share: float
    top: Floats
    regret: Floats


@dataclass(frozen=True)
class Searched:
    """`tune` over all tasks of a group, some times."""

    group: str
    before: str
    way: str
    tunes: tuple[Tuned, ...]


def groups(study: Own) -> dict[str, Own]:
    """Each engine alone, and where there are several, engine and method together."""
    found = {engine: study.of_engine(engine) for engine in study.engines}
    joint = study.of_several()
    if len(joint.where):
        found["engine and method together"] = joint
    return {name: one for name, one in found.items() if len(one.where)}


def scores(given: Own, mean: Floats, tasks: Sequence[int]) -> tuple[float, float]:
    """Mean regret and top-1 of the choices in the tasks."""
    regret = []
    for task in tasks:
        rows = np.flatnonzero(given.where.task == task)
        pick = rows[int(np.argmax(mean[rows]))]
        regret.append(float(-np.expm1(given.truth[pick] - given.truth[rows].max())))
    return float(np.mean(regret)), float(np.mean(np.array(regret) <= CLEAR))


def learnt(group: str, given: Own, seeds: int) -> list[Learnt]:
    """Top-1 and regret by what was known before, how the known runs were picked and how many they are."""
    given = given.only(given.works)
    silent = replace(given, prior=np.full(len(given.where), np.nan))
    found = [taught_alone(group, silent)]
    befores = {FORECAST: given} if np.isfinite(given.prior).any() else {}
    for before, one in (befores | {NOTHING: silent}).items():
        for way in ("none", "random runs", "whole tasks", "planner"):
            for share in (0.0,) if way == "none" else SHARES:
                some = [split(one, way, share, seed) for seed in range(splits(way, seeds))]
                top, regret = np.array([pair[1] for pair in some]), np.array([pair[0] for pair in some])
                found.append(Learnt(group, before, way, share, top, regret))
    return found


def splits(way: str, seeds: int) -> int:
    """How often a way is tried: what chance does not touch is tried once."""
    return 1 if way == "none" else max(1, seeds // 5) if way == "planner" else seeds


def taught_alone(group: str, given: Own) -> Learnt:
    """The choices that the other workloads teach, without one run of the judged one."""
    mean = np.zeros(len(given.where))
    for task in range(given.tasks):
        rows = np.flatnonzero(given.where.task == task)
        seen = picture([candidate(given, row) for row in rows.tolist()], given.lessons(task))
        mean[rows] = seen.beliefs.mean[seen.place]
    regret, top = scores(given, mean, range(given.tasks))
    return Learnt(group, TAUGHT, "none", 0.0, np.array([top]), np.array([regret]))


def split(given: Own, way: str, share: float, seed: int) -> tuple[float, float]:
    """Regret and top-1 after some of the runs."""
    rng = np.random.default_rng(seed)
    runs, tasks = picked(given, way, share, rng)
    shown = [float(rng.choice(given.runs[row])) for row in runs]
    return scores(given, beliefs(given, runs, shown).mean, tasks)


def picked(given: Own, way: str, share: float, rng: np.random.Generator) -> tuple[list[int], Sequence[int]]:
    """The known runs, and the tasks to judge."""
    n, every = len(given.where), range(given.tasks)
    if way == "none":
        return [], every
    if way == "random runs":
        return rng.choice(n, max(1, round(share * n)), replace=False).tolist(), every
    if way == "whole tasks":
        order = rng.permutation(given.tasks)
        cut = max(1, round(share * given.tasks))
        return np.flatnonzero(np.isin(given.where.task, order[:cut])).tolist(), order[cut:].tolist()
    return planned(given, share, int(rng.integers(1 << 30))), every


def planned(given: Own, share: float, seed: int) -> list[int]:
    """The runs that the planner makes, one after the other."""
    rows: list[int] = []
    pick = PICKERS[OURS]

    def kept(seen: Any, rng: np.random.Generator) -> int:
        rows.append(pick(seen, rng))
        return rows[-1]

    curve(given, kept, share, seed)
    return rows


def searched(group: str, given: Own, seeds: int) -> list[Searched]:
    """`tune` by what is known before, each task alone and with the runs of earlier tasks."""
    silent = replace(given, prior=np.full(len(given.where), np.nan))
    found = []
    befores: dict[str, tuple[Own, Callable[[int], list[Known]]]]
    befores = {FORECAST: (given, given.untold), BOTH: (given, given.lessons)}
    if not np.isfinite(given.prior).any():
        befores = {}
    befores |= {TAUGHT: (silent, silent.lessons), NOTHING: (silent, nothing)}
    for before, (one, taught) in befores.items():
        for way in ("alone", "one after the other"):
            tunes = tuple(tuned(one, way != "alone", seed, taught=taught) for seed in range(seeds))
            found.append(Searched(group, before, way, tunes))
            print(f"{group}, {before}, {way}: searched", file=sys.stderr, flush=True)
    return found


def nothing(_: int) -> list[Known]:
    """No lessons."""
    return []


def page(every: Sequence[Own], records: Sequence[Record], seeds: int, tunes: int, least: float) -> str:
    """The page, from its studies."""
    facts, known, found, always, trained = [], [], [], [], []
    for study in every:
        for group, given in groups(study).items():
            name = group if len(every) == 1 else f"{group}, {study.machine}"
            facts.append([
                name, str(given.tasks), str(len(given.where)), str(int(np.sum(~np.isfinite(given.truth)))),
                ", ".join(sorted({given.names[row][1] for row in np.flatnonzero(~given.gate)})) or "none",
            ])  # fmt: skip
            trained += judged(name, given, records)
            known += learnt(name, given, seeds)
            print(f"{name}: learnt", file=sys.stderr, flush=True)
            mine = searched(name, given, tunes)
            found += mine
            always.append(fixed_lines(name, given, fixed(given), mine[:2]))
    head = ("choice of", "tasks", "methods in tasks", "of them failed", "not admitted")
    devices = sorted({study.machine for study in every})
    failed = sum(record.metrics is None for record in records)
    compared, moved = others_move(records)
    return PAGE.format(
        records=len(records), failed=failed, machines=", ".join(devices), least=least, seeds=seeds,
        planner=splits("planner", seeds), tunes=tunes, facts=lines(head, facts), known=known_lines(known),
        tune=tune_lines(found), fixed="\n".join(always), trained=trained_lines(trained),
        compared=f"{compared:,}", moved="not at all" if moved == 0 else f"by up to {np.expm1(moved):.2%}",
    )  # fmt: skip


def main() -> None:
    """Measure, and write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="a store with the records of a study; without, the one that ships")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="splits")
    parser.add_argument("--tunes", type=int, default=TUNES, help="orders of the tasks of a tuning")
    parser.add_argument("--quality", type=float, default=LEAST_AGREEMENT, help="the gate of docs/study.md")
    parser.add_argument("--write", type=Path, help="the page to write")
    options = parser.parse_args()
    records = shipped()
    if options.store is not None:
        records = of_study(open_store(options.store, create=False).query())
    if not records:
        raise SystemExit("expected records of a study, found none: metainf study run --store STORE")
    every = own_studies(records, options.quality)
    text = page(every, records, options.seeds, options.tunes, options.quality)
    if options.write is None:
        print(text)
    else:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
