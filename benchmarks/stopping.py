"""When a tuning has seen enough: the rule of `tune` against truly different ones, each at several bars.

They are judged on machines of the public history alone; the study of this project had no say. All of them go
on with the run that `tune` would make.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from planning_page import lines
from scipy.special import ndtr
from studies import Study
from tuning import RULES, tuned

from metainf.learn.views import Floats
from metainf.measure.tune import Flags, Rules, Standing, Stop, enough

MACHINES, TASKS = 2, 8
"""Machines of a source, and tasks of each, on which the rules are judged."""
GOAL_REGRET = 0.03
Score = Sequence[float]
"""Mean regret and share of runs."""


def best_run(at: Standing) -> int:
    """The best of what ran and may win."""
    return int(np.argmax(np.where(at.proven, at.beliefs.mean, -np.inf)))


def against(at: Standing) -> tuple[Floats, Floats, Flags]:
    """Of each place against the best that ran: mean and standard deviation of what it is better by, and
    whether it may still win."""
    best, c = best_run(at), at.beliefs.covariance
    apart = np.sqrt(np.maximum(np.diag(c) + c[best, best] - 2 * c[best], 0.0)) + 1e-9
    rivals = at.alive & (np.arange(len(apart)) != best)
    return at.beliefs.mean - at.beliefs.mean[best], apart, rivals


def losses(at: Standing) -> Floats:
    """What the best that ran loses against the best of all, in a thousand draws of all beliefs."""
    alive = np.flatnonzero(at.alive)
    spread, axes = np.linalg.eigh(at.beliefs.covariance[np.ix_(alive, alive)])
    normal = np.random.default_rng(0).standard_normal((1000, len(alive)))
    drawn = at.beliefs.mean[alive] + (normal * np.sqrt(np.maximum(spread, 0.0))) @ axes.T
    return np.asarray(drawn.max(axis=1) - drawn[:, int(np.flatnonzero(alive == best_run(at))[0])])


def loses_little(bar: float, at: Standing, may: Flags, rules: Rules) -> bool:
    """The expected loss of the choice is below the bar."""
    return float(losses(at).mean()) <= bar


def surely_good(bar: float, at: Standing, may: Flags, rules: Rules) -> bool:
    """The choice loses more than the bar with a chance of at most 30 %."""
    return float(np.mean(losses(at) > bar)) <= 0.3


def eliminated(bar: float, at: Standing, may: Flags, rules: Rules) -> bool:
    """Successive elimination: no rival's upper bound (0.7 standard deviations) is above the bar."""
    ahead, apart, rivals = against(at)
    return not np.any((ahead + 0.7 * apart > bar) & rivals)


def little_hope(bar: float, at: Standing, may: Flags, rules: Rules) -> bool:
    """No rival that never ran is expected to improve on the choice by more than the bar."""
    ahead, apart, rivals = against(at)
    z = ahead / apart
    hope = apart * (np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) + z * ndtr(z))
    return not np.any((hope > bar) & rivals & (at.runs == 0))


def no_batch_pays(bar: float, at: Standing, may: Flags, rules: Rules) -> bool:
    """Looking ahead: no number of further runs, the most hopeful first, is worth more than the bar each."""
    ahead, apart, rivals = against(at)
    z = np.where(rivals & (at.runs == 0), ahead / apart, -np.inf)
    order = np.argsort(-z)[: int(np.isfinite(z).sum())]
    if not len(order):
        return True
    normal = np.random.default_rng(0).standard_normal((1000, len(order)))
    drawn = np.maximum(ahead[order] + normal * apart[order], 0.0)
    each = np.maximum.accumulate(drawn, axis=1).mean(axis=0) / np.arange(1, len(order) + 1)
    return bool(each.max() <= bar)


def counted(bar: float, at: Standing, may: Flags, rules: Rules) -> bool:
    """So many methods ran."""
    return int(np.sum(at.runs > 0)) >= bar


def by_gain(bar: float, at: Standing, may: Flags, rules: Rules) -> bool:
    """The rule of `tune`, at another bar."""
    return enough(at, may, Rules(worth=bar))


OURS = "no run gains more, as tune"
STOPS: Mapping[str, tuple[Callable[[float, Standing, Flags, Rules], bool], tuple[float, ...]]] = {
    OURS: (by_gain, (0.01, 0.02, 0.03, 0.05)),
    "expected loss is less": (loses_little, (0.03, 0.06, 0.1)),
    "more is lost by a chance of 30 % at most": (surely_good, (0.03, 0.06)),
    "no upper bound is higher": (eliminated, (0.02, 0.05)),
    "no method is expected to improve by more": (little_hope, (0.02, 0.05)),
    "no batch of runs gains more for each": (no_batch_pays, (0.02, 0.05)),
    "so many methods were run": (counted, (1, 2, 3)),
}


def stops() -> Iterable[tuple[str, float, Stop]]:
    """Every rule at every bar."""
    for name, (rule, bars) in STOPS.items():
        for bar in bars:
            yield name, bar, partial(rule, bar)


def judged_on(every: Sequence[Study]) -> list[Study]:
    """The first machines of each source."""
    seen: dict[str, int] = {}
    kept = []
    for study in every:
        seen[study.source] = seen.get(study.source, 0) + 1
        if seen[study.source] <= MACHINES:
            kept.append(study)
    return kept


def score(study: Study, stop: Stop, remember: bool) -> list[float]:
    """Regret and share of runs on a sample of a study's tasks."""
    few = study.sample(TASKS, np.random.default_rng(0))
    found = tuned(few, remember, 0, RULES, stop=stop)
    return [float(found.regret.mean()), found.share, found.least]


def stop_rows(found: Mapping[tuple[str, float], Mapping[tuple[str, str], Mapping[str, list[Score]]]]) -> str:
    """For each rule and bar, by what was known before: regret and share of runs, means over sources."""
    kinds = list(next(iter(found.values())))
    rows = []
    for (name, bar), by in found.items():
        cells = []
        for kind in kinds:
            mean = np.mean([np.mean(parts, axis=0) for parts in by[kind].values()], axis=0)
            good = mean[0] <= GOAL_REGRET
            cells.append(f"{mean[0]:.3f} at {mean[1]:.0%}" if good else f"*{mean[0]:.3f} at {mean[1]:.0%}*")
        rows.append([f"**{name}**" if name == OURS else name, f"{bar:g}", *cells])
    return lines(("stop where", "bar", *(f"{before}, {way}" for before, way in kinds)), rows)
