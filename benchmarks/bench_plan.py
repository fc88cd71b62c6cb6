"""How many runs it takes to choose well: the planner against other ways to pick runs, and `tune`.

    python benchmarks/bench_plan.py --store HISTORY.sqlite --write docs/planning.md

Held-out machines of the public history are taken for "this machine"; the forecast is trained on the others.
Takes some minutes on one core.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from planning import OURS, PICKERS, RANDOM, curve, read_off
from planning_page import PAGE, figure, goal_rows, rule_rows, tune_rows
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


def priors(study: Study) -> Iterable[tuple[str, Study]]:
    """A study with its forecast, where there is one, and without any."""
    if np.isfinite(study.prior).any():
        yield "forecast", study
    yield "nothing", replace(study, prior=np.full(len(study.where), np.nan))


def measured(every: Sequence[Study], seeds: int, tasks: int) -> tuple[Curves, list[dict[str, float | str]]]:
    """Curves of all rules, and what each study is."""
    found: Curves = {}
    facts: list[dict[str, float | str]] = []
    for study in every:
        name = f"{study.machine}, {study.view.partition(' ')[0]}"
        sizes = []
        for prior, given in priors(study):
            for rule, picker in PICKERS.items():
                rows = []
                for seed in range(seeds):
                    few = given.sample(tasks, np.random.default_rng(seed))
                    rows.append(read_off(curve(few, picker, MOST.get(rule, OTHERS), seed), len(few.where)))
                    sizes.append(len(few.where) / few.tasks)
                found[study.source, name, prior, rule] = np.array(rows)
        facts.append({
            "source": study.source, "name": name, "tasks": min(tasks, study.tasks),
            "methods": float(np.mean(sizes)),
        })  # fmt: skip
    return found, facts


def searched(every: Sequence[Study], seeds: int, tasks: int) -> dict[tuple[str, str, str], list[Tuned]]:
    """Results of `tune` by source, prior and whether earlier tasks are known."""
    found: dict[tuple[str, str, str], list[Tuned]] = {}
    for study in every:
        for prior, given in priors(study):
            for history in ("alone", "one after the other"):
                for seed in range(seeds):
                    few = given.sample(tasks, np.random.default_rng(seed))
                    key = study.source, prior, history
                    found.setdefault(key, []).append(tuned(few, history != "alone", seed))
    return found


def main() -> None:
    """Measure, and write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="records with the public history")
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), help="which campaigns")
    parser.add_argument("--seeds", type=int, default=3, help="samples of tasks and orders of each machine")
    parser.add_argument("--tasks", type=int, default=20, help="tasks of one sample, at most")
    parser.add_argument("--write", type=Path, help="the page to write; its figure goes into figures/ beside")
    options = parser.parse_args()
    records = list(open_store(options.store, create=False).query())
    history = table(records)
    every = [study for source in options.sources for study in studies(history, records, source)]
    curves, facts = measured(every, options.seeds, options.tasks)
    search = searched(every, max(1, options.seeds // 3), options.tasks)
    page = PAGE.format(
        seeds=options.seeds, tasks=options.tasks, goal=goal_rows(curves, facts), rules=rule_rows(curves),
        tune=tune_rows(search),
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
