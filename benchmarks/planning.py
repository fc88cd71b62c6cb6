"""Runs of a study revealed one at a time, and the regret of the choices after each."""

from collections.abc import Callable

import numpy as np
from studies import Study

from metainf.learn.local import Posterior, posterior
from metainf.learn.views import Floats
from metainf.measure import beliefs as rules
from metainf.measure.plan import worth

Picker = Callable[[rules.Beliefs, np.random.Generator], int]
GRID = np.array([0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5])
"""Shares of the runs at which regret is read off."""


def by(rule: rules.Rule) -> Picker:
    """The place with the most worth that was not run; of equals, by chance."""

    def pick(beliefs: rules.Beliefs, rng: np.random.Generator) -> int:
        found = np.where(beliefs.p_ok > 0, rule(beliefs), -1.0)
        return int(rng.choice(np.flatnonzero(found >= found.max() - 1e-12)))

    return pick


def at_random(beliefs: rules.Beliefs, rng: np.random.Generator) -> int:
    """Any place not yet run."""
    return int(rng.choice(np.flatnonzero(beliefs.p_ok > 0)))


def believed_best(beliefs: rules.Beliefs, rng: np.random.Generator) -> int:
    """The place believed best, in a task with the fewest runs: the forecasts are confirmed in turn."""
    left = beliefs.p_ok > 0
    done = np.bincount(beliefs.task, weights=~left)
    count = np.where(left, done[beliefs.task], np.inf)
    few = np.flatnonzero(count == count.min())
    return int(few[np.argmax(beliefs.mean[few] + 1e-9 * rng.standard_normal(len(few)))])


RANDOM, OURS = "random", "planner"
PICKERS: dict[str, Picker] = {
    RANDOM: at_random,
    "most uncertain": by(rules.uncertain),
    "believed best, in turn": believed_best,
    "expected improvement": by(rules.improved),
    "uncertainty at stake": by(rules.at_stake),
    OURS: by(worth),
}


def regret(study: Study, mean: Floats, tie: Floats) -> float:
    """Mean over tasks of 1 − value of the choice / best value."""
    order = np.lexsort((tie, -mean, study.where.task))
    first = order[np.flatnonzero(np.diff(study.where.task[order], prepend=-1))]
    best = np.full(len(first), -np.inf)
    np.maximum.at(best, study.where.task, study.truth)
    return float(np.mean(-np.expm1(study.truth[first] - best)))


def curve(study: Study, picker: Picker, most: float, seed: int) -> Floats:
    """Regret after 0, 1, 2 ... runs, up to a share of all places. Each place is run once; what it shows is
    one of its runs, the truth is their median."""
    rng = np.random.default_rng(seed)
    n = len(study.where)
    tie, left = rng.random(n), np.ones(n)
    rows: list[int] = []
    shown: list[float] = []
    now, due = beliefs(study, rows, shown), 4
    found = [regret(study, now.mean, tie)]
    needed = {int(np.floor(share * n)) for share in GRID} | {int(np.ceil(share * n)) for share in GRID}
    for _ in range(int(np.ceil(most * n))):
        alive = np.ones(n, dtype=np.bool_)
        seen = rules.Beliefs(now.mean, now.covariance, now.noise, study.where.task, alive, left)
        place = picker(seen, rng)
        rows.append(place)
        shown.append(float(rng.choice(study.runs[place])))
        left[place] = 0.0
        if picker is at_random and len(rows) not in needed:
            found.append(np.nan)
            continue
        if len(rows) >= due or picker is at_random:
            now, due = beliefs(study, rows, shown), max(due + 4, int(1.3 * due))
        else:
            now = now.seen(place, shown[-1])
        found.append(regret(study, now.mean, tie))
    return np.array(found)


def beliefs(study: Study, rows: list[int], shown: list[float]) -> Posterior:
    """What the runs leave, sizes settled anew."""
    return posterior(study.where, study.prior, np.array(rows, dtype=np.intp), np.array(shown, dtype=float))


def read_off(found: Floats, n: int) -> Floats:
    """A curve at the shares of GRID, NaN beyond its end; a share is of n runs."""
    at = np.flatnonzero(np.isfinite(found))
    return np.asarray(np.interp(GRID, at / n, found[at], right=np.nan))
