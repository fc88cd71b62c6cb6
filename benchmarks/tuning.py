"""`tune` on the tasks of a study: what it chooses, and how many runs it needs."""

from dataclasses import dataclass

import numpy as np
from studies import Study

from metainf.learn.views import Floats
from metainf.measure.plan import Candidate, Known
from metainf.measure.tune import Ran, Rules, search, tune

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


def tuned(study: Study, remember: bool, seed: int, rules: Rules = RULES) -> Tuned:
    """Tune every task, in an order by chance; remember: what earlier tasks showed is known."""
    rng = np.random.default_rng(seed)
    known: list[Known] = []
    chosen, best, runs = np.zeros(study.tasks), np.zeros(study.tasks), 0
    for task in rng.permutation(study.tasks).tolist():
        rows = np.flatnonzero(study.where.task == task)
        some = [candidate(study, row) for row in rows.tolist()]
        place = {one.method.id + one.setting.id: row for one, row in zip(some, rows.tolist(), strict=True)}

        def run(one: Candidate, _: float, place: dict[str, int] = place) -> Ran:
            shown = rng.choice(study.runs[place[one.method.id + one.setting.id]])
            return Ran(float(np.exp(shown)), one.seconds)

        verdict, done = tune(search(some, rules, known if remember else ()), run)
        assert verdict.winner is not None
        chosen[task], best[task] = study.truth[rows[verdict.winner]], study.truth[rows].max()
        runs += len(done.runs)
        known += [Known(some[i], float(np.log(ran.value))) for i, ran in done.runs if ran.value is not None]
    return Tuned(-np.expm1(chosen - best), chosen, runs / len(study.where), study.tasks / len(study.where))


def candidate(study: Study, row: int) -> Candidate:
    """A place of a study as a candidate; every run costs the same."""
    setting, method = study.pairs[row]
    prior = float(study.prior[row])
    task = f"{study.where.task[row]}"
    return Candidate(setting, method, task, SECONDS, prior if np.isfinite(prior) else None)
