"""How many runs it takes to choose well: the planner against other ways to pick runs, and `tune`.

    python benchmarks/bench_plan.py --store HISTORY.sqlite --write docs/planning.md

Held-out machines of the public history are taken for "this machine"; the forecast is trained on the others.
Takes TIME on one core; with --keep FILE it can be stopped at any time, and goes on where it was.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from kept import Kept, TimeUp, mark
from planning import OURS, PICKERS, RANDOM, curve, read_off
from planning_page import PAGE, PRIORS, figure, goal_rows, rule_rows, tune_rows
from stopping import MACHINES, TASKS, Score, judged_on, score, stop_rows, stops
from studies import SOURCES, Study, studies
from tuning import Tuned, tuned

from metainf.learn.table import table
from metainf.learn.views import Floats
from metainf.store import open_store

MOST = {RANDOM: 0.5, OURS: 0.5}
OTHERS = 0.2
"""Shares of the runs that are revealed, by rule."""
Curves = dict[tuple[str, str, str, str], Floats]
"""By source, machine and view, prior, and rule: regret (seeds, shares of GRID)."""
DEPENDS = (
    *(f"src/metainf/learn/{name}.py" for name in ("local", "places", "contest", "views")),
    *(f"src/metainf/measure/{name}.py" for name in ("beliefs", "plan", "tune")),
    *(f"benchmarks/{name}.py" for name in ("planning", "stopping", "studies", "tuning")),
)
"""What the results depend on, beside the records."""


def priors(study: Study) -> Iterable[tuple[str, Study]]:
    """A study with its forecast, where there is one, and without any."""
    if np.isfinite(study.prior).any():
        yield "forecast", study
    yield "nothing", replace(study, prior=np.full(len(study.where), np.nan))


def measured(
    every: Sequence[Study], seeds: int, tasks: int, kept: Kept
) -> tuple[Curves, list[dict[str, float | str]]]:
    """Curves of all rules, and what each study is."""
    found: Curves = {}
    facts: list[dict[str, float | str]] = []
    for study in every:
        name = f"{study.machine}, {study.view.partition(' ')[0]}"
        sizes = []
        for prior, given in priors(study):
            for rule in PICKERS:
                rows = []
                for seed in range(seeds):
                    few = given.sample(tasks, np.random.default_rng(seed))
                    key = ("curve", study.source, study.machine, study.view, prior, rule, seed, tasks)
                    rows.append(np.array(kept.get(key, partial(shown, few, rule, seed)), dtype=np.float64))
                    sizes.append(len(few.where) / few.tasks)
                found[study.source, name, prior, rule] = np.array(rows)
        facts.append({
            "source": study.source, "name": name, "tasks": min(tasks, study.tasks),
            "methods": float(np.mean(sizes)),
        })  # fmt: skip
    return found, facts


def shown(few: Study, rule: str, seed: int) -> list[float]:
    """The curve of a rule at the shares of GRID."""
    found = curve(few, PICKERS[rule], MOST.get(rule, OTHERS), seed)
    curve_of: list[float] = read_off(found, len(few.where)).tolist()
    return curve_of


def searched(
    every: Sequence[Study], seeds: int, tasks: int, kept: Kept
) -> dict[tuple[str, str, str], list[Tuned]]:
    """Results of `tune` by source, prior and whether earlier tasks are known."""
    found: dict[tuple[str, str, str], list[Tuned]] = {}
    for study in every:
        for prior, given in priors(study):
            for history in ("alone", "one after the other"):
                for seed in range(seeds):
                    few = given.sample(tasks, np.random.default_rng(seed))
                    key = ("tune", study.source, study.machine, study.view, prior, history, seed, tasks)
                    made = kept.get(key, partial(plain, few, history, seed))
                    one = Tuned(np.array(made[0]), np.array(made[1]), made[2], made[3])
                    found.setdefault((study.source, prior, history), []).append(one)
    return found


def stopped(every: Sequence[Study], kept: Kept) -> str:
    """The rows of all rules to stop by."""
    found: dict[tuple[str, float], dict[tuple[str, str], dict[str, list[Score]]]] = {}
    for name, bar, stop in stops():
        for study in judged_on(every):
            for prior, given in priors(study):
                for way in ("alone", "one after the other"):
                    key = ("stop", study.source, study.machine, study.view, prior, way, name, str(bar))
                    made = kept.get(key, partial(score, given, stop, way != "alone"))
                    kind = found.setdefault((name, bar), {}).setdefault((PRIORS[prior], way), {})
                    kind.setdefault(study.source, []).append(made)
    return stop_rows(found)


def plain(few: Study, way: str, seed: int) -> tuple[list[float], list[float], float, float]:
    """A tuning of all tasks as plain data."""
    one = tuned(few, way != "alone", seed)
    return one.regret.tolist(), one.log_value.tolist(), one.share, one.least


def main() -> None:
    """Measure, and write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="records with the public history")
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), help="which campaigns")
    parser.add_argument("--seeds", type=int, default=3, help="samples of tasks and orders of each machine")
    parser.add_argument("--tasks", type=int, default=20, help="tasks of one sample, at most")
    parser.add_argument("--keep", type=Path, help="a file that keeps results, so that it can go on later")
    parser.add_argument(
        "--time-limit", type=float, default=float("inf"), help="seconds; ends with 3 if short"
    )
    parser.add_argument("--write", type=Path, help="the page to write; its figure goes into figures/ beside")
    options = parser.parse_args()
    kept = Kept(options.keep, mark(DEPENDS), options.time_limit)
    try:
        write(options, kept)
    except TimeUp as up:
        print(up, file=sys.stderr)
        raise SystemExit(3) from None


def write(options: argparse.Namespace, kept: Kept) -> None:
    """Measure what is not kept, and make the page."""
    records = list(open_store(options.store, create=False).query())
    history = table(records)
    every = [study for source in options.sources for study in studies(history, records, source, kept.get)]
    curves, facts = measured(every, options.seeds, options.tasks, kept)
    search = searched(every, max(1, options.seeds // 3), options.tasks, kept)
    page = PAGE.format(
        seeds=options.seeds, tasks=options.tasks, goal=goal_rows(curves, facts), rules=rule_rows(curves),
        tune=tune_rows(search), machines=MACHINES, few=TASKS, stops=stopped(every, kept),
    )  # fmt: skip
    if options.write is None:
        print(page)
        return
    folder = options.write.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure(curves, folder / "plan_curve.svg")
    options.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
