"""`tune` on the tasks of a study: what it chooses, and how many runs it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from studies import Study

from metainf.learn.views import Floats
from metainf.measure.plan import Candidate, Known
from metainf.measure.tune import Ran, Rules, Stop, search, tune

SECONDS = 60.0
RULES = Rules()


@dataclass(frozen=True)
class Tuned:
    """Of the tasks of one study, in order: regret and true log value of the choice (tasks,); the runs made as
    a share of measuring every method once, and the share that one run of each task would be."""

    regret: Floats
    log_value: Floats
    share: float
    least: float


Taught = Callable[[int], Sequence[Known]]
"""What other machines teach before a task is searched."""


def tuned(
    study: Study,
    remember: bool,
    seed: int,
    rules: Rules = RULES,
    taught: Taught = lambda _: (),
    stop: Stop | None = None,
) -> Tuned:
    """Tune every task, in an order by chance; remember: what earlier tasks showed is known.

    What keeps no quality gate is run like the rest, and may not win.
    """
    rng = np.random.default_rng(seed)
    known: list[Known] = []
    chosen, best, runs = np.zeros(study.tasks), np.zeros(study.tasks), 0
    every = [candidate(study, row) for row in range(len(study.where))]
    rules = rules if study.keeps is None else replace(rules, quality=0.5)
    for task in rng.permutation(study.tasks).tolist():
        rows = np.flatnonzero(study.where.task == task)
        some = [every[row] for row in rows.tolist()]
        place = {one.key: row for one, row in zip(some, rows.tolist(), strict=True)}

        def run(one: Candidate, _: float, place: dict[tuple[str, ...], int] = place) -> Ran:
            row = place[one.key]
            if not len(study.runs[row]):
                return Ran(None, one.seconds, error="it failed")
            shown = rng.choice(study.runs[row])
            return Ran(float(np.exp(shown)), one.seconds, float(study.kept(row)))

        before = [*(known if remember else ()), *taught(task)]
        verdict, done = tune(search(some, rules, before), run, stop)
        assert verdict.winner is not None
        good = [row for row in rows.tolist() if study.kept(row)]
        chosen[task], best[task] = study.truth[rows[verdict.winner]], study.truth[good].max()
        runs += len(done.runs)
        known += [
            Known(some[i], None if ran.value is None else float(np.log(ran.value)), done.meets(ran))
            for i, ran in done.runs
        ]
    return Tuned(-np.expm1(chosen - best), chosen, runs / len(study.where), study.tasks / len(study.where))


def candidate(study: Study, row: int) -> Candidate:
    """A place of a study as a candidate; every run costs the same."""
    setting, method = study.pairs[row]
    prior = float(study.prior[row])
    task = f"{study.where.task[row]}"
    return Candidate(setting, method, task, SECONDS, prior if np.isfinite(prior) else None)
