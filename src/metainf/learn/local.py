"""What the runs of one machine teach: an exact Gaussian process over what a prior left of log values.

The covariance of two places is a sum of parts: the level of the machine, of like tasks and of the task; the
effect of like methods, everywhere and in like tasks; an error of the prior that grows with what it said;
and what is left of the place alone. How large the parts are is settled by the runs of this machine (that of
the first place), by marginal likelihood against a weak prior, on a small grid. Nothing is trained elsewhere,
so an engine that no history knows is learnt like any other.

Places of another machine share no level with this one's, and the effects of methods only as far as the two
machines are kin: contrasts carry over, weakly, and levels not at all.
"""

from dataclasses import dataclass, replace

import numpy as np

from metainf.learn.places import Numbers, Places
from metainf.learn.views import Floats


@dataclass(frozen=True)
class Sizes:
    """Standard deviations in natural-log units: of levels, of the effects of methods, of one run; the share
    of an effect that varies with the task."""

    level: float = 5.0
    effect: float = 0.3
    noise: float = 0.03
    varying: float = 0.5


AFTER_FORECAST = Sizes(effect=0.1)
"""What is believed where a forecast speaks of every place: most of the effects are in it. Set on machines of
the public history (docs/planning.md)."""
_GRID: dict[str, tuple[float, ...]] = {
    "effect": (0.05, 0.1, 0.2, 0.4, 0.8),
    "varying": (0.5, 0.8),
    "noise": (0.01, 0.03, 0.08),
    "level": (0.3, 1.0, 3.0, 10.0),
}
_DOUBT = {"effect": 0.7, "noise": 0.7, "level": 1.5, "varying": 1.0}
"""Log-scale of the weak prior on each size, about what is believed before any run."""
_SLOPE = 0.3
"""How far, in standard deviations, the contrasts of a prior may be too strong or too weak."""
_ALONE = 0.1
"""Share of an effect's variance that nothing else shares."""
LEAST_NOISE = 1e-3
TRUST = 2.0
"""Runs that a predicted chance of working counts for."""
_NARROW = 3.0
"""How much less far a failure reaches than a time."""
FEWEST = 4
"""Runs below which the sizes stay as believed."""


class Kernel:
    """Covariances between places under a prior (n,), NaN where it says nothing."""

    def __init__(self, where: Places, prior: Floats) -> None:
        self.where, self.prior = where, centred(prior, where.task)

    def parts(self, left: Numbers, right: Numbers) -> dict[str, Floats]:
        """Unscaled parts (a, b): level, effects everywhere and in like tasks, slope."""
        where = self.where
        work = where.work[np.ix_(where.setting[left], where.setting[right])]
        pairs = np.ix_(where.kind[left], where.kind[right])
        same = where.task[left][:, None] == where.task[right]
        here = where.machine[left][:, None] == where.machine[right]
        kin = where.kin[np.ix_(where.machine[left], where.machine[right])]
        effect = 0.5 * where.additive[pairs] + 0.5 * where.method[pairs]
        alone = (left[:, None] == right) * 1.0
        return {
            "level": here * (0.4 + 0.3 * work + 0.3 * same),
            "shared": kin * ((1 - _ALONE) * effect + _ALONE * alone),
            "varying": kin
            * ((1 - _ALONE) * where.method[pairs] * (0.7 * work + 0.3 * same) + _ALONE * alone),
            "slope": kin * _SLOPE**2 * np.outer(self.prior[left], self.prior[right]),
        }

    @staticmethod
    def joined(parts: dict[str, Floats], sizes: Sizes) -> Floats:
        """Their sum under the sizes."""
        effect = (1 - sizes.varying) * parts["shared"] + sizes.varying * parts["varying"]
        return np.asarray(sizes.level**2 * parts["level"] + sizes.effect**2 * effect + parts["slope"])


def centred(values: Floats, task: Numbers) -> Floats:
    """Values less the mean of the known ones of their task; 0 where nothing is known."""
    known = np.isfinite(values)
    count = np.maximum(np.bincount(task[known], minlength=int(task.max(initial=0)) + 1), 1)
    total = np.bincount(task[known], weights=values[known], minlength=len(count))
    return np.where(known, values - (total / count)[task], 0.0)


@dataclass(frozen=True)
class Posterior:
    """What is believed of n log values: mean (n,), covariance (n, n), the error of one more run."""

    mean: Floats
    covariance: Floats
    noise: float
    sizes: Sizes

    def seen(self, place: int, log_value: float) -> "Posterior":
        """After one more run of a place (sizes stay)."""
        pull = self.covariance[:, place] / (self.covariance[place, place] + self.noise**2)
        return replace(
            self,
            mean=self.mean + pull * (log_value - self.mean[place]),
            covariance=self.covariance - np.outer(pull, self.covariance[place]),
        )


def posterior(
    where: Places,
    prior: Floats,
    rows: Numbers,
    log_values: Floats,
    believed: Sizes | None = None,
    noise: float | None = None,
    sizes: Sizes | None = None,
) -> Posterior:
    """Beliefs about every place after runs of `rows` (which may repeat) measured `log_values`.

    prior: natural logs (n,), NaN where nothing is said: such places stand at the mean of their task, or of
    all. The mean of what it left of the runs of a machine is added to all of it there. believed: the sizes
    before any run, about which they are settled (None: by whether the prior speaks of every place); noise:
    the error of one run, where it is known; sizes: those that were settled before, where they were.
    """
    from scipy.linalg import cho_solve, solve_triangular

    kernel, every = Kernel(where, prior), np.arange(len(where))
    believed = believed or (AFTER_FORECAST if np.isfinite(prior).all() else Sizes())
    start = filled(prior, where.task)
    left, ran = log_values - start[rows], where.machine[rows]
    for machine in np.unique(ran).tolist():
        start[where.machine == machine] += float(np.mean(left[ran == machine]))
    mine, left = ran == 0, log_values - start[rows]
    sizes = sizes or settled(kernel, rows[mine], left[mine], believed, noise)
    full = kernel.joined(kernel.parts(every, every), sizes)
    if not len(rows):
        return Posterior(start, full, sizes.noise, sizes)
    unseen = ~np.isin(where.machine, ran)
    full += believed.level**2 * (unseen[:, None] & (where.machine[:, None] == where.machine))
    cross = full[:, rows]
    lower = np.linalg.cholesky(cross[rows] + sizes.noise**2 * np.eye(len(rows)))
    mean = start + cross @ cho_solve((lower, True), log_values - start[rows])
    half = solve_triangular(lower, cross.T, lower=True)
    return Posterior(mean, full - half.T @ half, sizes.noise, sizes)


def filled(prior: Floats, task: Numbers) -> Floats:
    """A prior without gaps: unknown places at the mean of their task's known ones, else at that of all."""
    known = np.isfinite(prior)
    overall = float(prior[known].mean()) if known.any() else 0.0
    count = np.bincount(task[known], minlength=int(task.max(initial=0)) + 1)
    total = np.bincount(task[known], weights=prior[known], minlength=len(count))
    middle = np.where(count > 0, total / np.maximum(count, 1), overall)
    return np.where(known, prior, middle[task])


def settled(
    kernel: Kernel, rows: Numbers, left: Floats, believed: Sizes = Sizes(), noise: float | None = None
) -> Sizes:
    """The sizes of the grid under which the residuals of the runs are likeliest, found one at a time."""
    sizes = believed if noise is None else replace(believed, noise=max(noise, LEAST_NOISE))
    if len(rows) < FEWEST:
        return sizes
    parts = kernel.parts(rows, rows)
    best = _evidence(parts, sizes, left, believed)
    for _ in range(2):
        before = sizes
        for name, options in _GRID.items():
            for value in options if name != "noise" or noise is None else ():
                tried = replace(sizes, **{name: value})
                if tried != sizes and (found := _evidence(parts, tried, left, believed)) > best:
                    best, sizes = found, tried
        if sizes == before:
            break
    return sizes


def _evidence(parts: dict[str, Floats], sizes: Sizes, left: Floats, believed: Sizes) -> float:
    """Log marginal likelihood of residuals, and the log of the belief in the sizes."""
    from scipy.linalg import solve_triangular

    covariance = Kernel.joined(parts, sizes) + sizes.noise**2 * np.eye(len(left))
    lower = np.linalg.cholesky(covariance)
    half = solve_triangular(lower, left, lower=True, check_finite=False)
    belief = sum(
        (np.log(getattr(sizes, name) / getattr(believed, name)) / scale) ** 2
        for name, scale in _DOUBT.items()
    )
    return float(-0.5 * half @ half - np.log(np.diag(lower)).sum() - 0.5 * belief)


def chances(where: Places, p_ok: Floats, rows: Numbers, worked: Floats) -> Floats:
    """Chance (n,) that each place runs: as predicted, moved by how like places fared (1 worked, 0 failed)."""
    kinds = where.method[np.ix_(where.kind, where.kind[rows])] ** _NARROW
    kinds = kinds * where.kin[np.ix_(where.machine, where.machine[rows])]
    alike = kinds * where.work[np.ix_(where.setting, where.setting[rows])]
    return np.asarray((TRUST * p_ok + alike @ worked) / (TRUST + alike.sum(axis=1)))
