"""Runs of a held-out study revealed one at a time, and the regret of the choices after each."""

from collections.abc import Callable

import numpy as np
from studies import Study

from metainf.learn.local import Sizes, posterior
from metainf.learn.views import Floats
from metainf.measure import plan

Picker = Callable[[plan.Beliefs, np.random.Generator], int]


def by(rule: plan.Rule, unseen: Floats | None = None) -> Picker:
    """The place with the most worth; of equals, by chance."""

    def pick(beliefs: plan.Beliefs, rng: np.random.Generator) -> int:
        worth = np.where(beliefs.p_ok > 0, rule(beliefs), -1.0)
        top = np.flatnonzero(worth >= worth.max() - 1e-12)
        return int(rng.choice(top))

    return pick


def random(beliefs: plan.Beliefs, rng: np.random.Generator) -> int:
    """Any place not yet run."""
    return int(rng.choice(np.flatnonzero(beliefs.p_ok > 0)))


def believed_best(beliefs: plan.Beliefs, rng: np.random.Generator) -> int:
    """The place believed best of those not yet run, of a task with the fewest runs (confirm the forecast)."""
    left = beliefs.p_ok > 0
    done = np.bincount(beliefs.task, weights=~left)
    count = np.where(left, done[beliefs.task], np.inf)
    few = np.flatnonzero(count == count.min())
    return int(few[np.argmax(beliefs.mean[few] + 1e-9 * rng.standard_normal(len(few)))])


PICKERS: dict[str, Picker] = {
    "random": random,
    "most uncertain": by(plan.uncertain),
    "believed best first": believed_best,
    "expected improvement": by(plan.improved),
    "uncertainty at stake": by(plan.at_stake),
    "knowledge gradient": by(plan.gained),
}


def regret(study: Study, mean: Floats, tie: Floats) -> float:
    """Mean over tasks of 1 − value of the choice / best value."""
    order = np.lexsort((tie, -mean, study.where.task))
    first = order[np.flatnonzero(np.diff(study.where.task[order], prepend=-1))]
    best = np.full(len(first), -np.inf)
    np.maximum.at(best, study.where.task, study.truth)
    return float(np.mean(-np.expm1(study.truth[first] - best)))


def curve(study: Study, picker: Picker, most: float, seed: int, use_prior: bool = True) -> Floats:
    """Regret after 0, 1, 2 ... runs, up to a share of all places. Each place is run once; what it shows is
    one of its runs, the truth is their median."""
    rng = np.random.default_rng(seed)
    n = len(study.where)
    prior = study.prior if use_prior else np.full(n, np.nan)
    tie = rng.random(n)
    left = np.ones(n)
    rows: list[int] = []
    shown: list[float] = []
    now, sizes = _settle(study, prior, rows, shown), 4
    found = [regret(study, now.mean, tie)]
    for _ in range(int(np.ceil(most * n))):
        beliefs = plan.Beliefs(
            now.mean, now.covariance, now.noise, study.where.task, np.ones(n, dtype=bool), left
        )
        place = picker(beliefs, rng)
        value = float(rng.choice(study.runs[place]))
        rows.append(place)
        shown.append(value)
        left[place] = 0.0
        if len(rows) >= sizes:
            now, sizes = _settle(study, prior, rows, shown), max(sizes + 4, int(1.3 * sizes))
        else:
            now = now.seen(place, value)
        found.append(regret(study, now.mean, tie))
    return np.array(found)


def _settle(study: Study, prior: Floats, rows: list[int], shown: list[float]):  # type: ignore[no-untyped-def]
    if not rows:
        return posterior(study.where, prior, np.zeros(0, dtype=np.intp), np.zeros(0), Sizes())
    return posterior(study.where, prior, np.array(rows), np.array(shown))
