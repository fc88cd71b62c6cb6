"""Which runs to measure next: those whose result would most likely change a selection.

Worth is expected gain (`beliefs`), times the chance that the run works, per second. A plan is made before
its runs are known: after each pick the beliefs are those that a run with the expected result would leave.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from metainf.domain import BadInput, Method, Setting
from metainf.learn.local import chances, posterior
from metainf.learn.places import Numbers, places
from metainf.learn.views import Floats
from metainf.measure.beliefs import Beliefs, Rule, at_stake, gained

SETTLING = 0.03
"""Weight of the settled regret beside the gain: it orders runs that change no choice alone."""
UNKNOWN = 1.5
"""Standard deviation of a log value from which on nothing is known of it."""
MOST = 48
"""Places of which the knowledge gradient is worked out."""


@dataclass(frozen=True)
class Candidate:
    """A run that could be made. `task` names the choice it belongs to; `log_value` is the forecast of what
    is maximised (natural log; None: nothing is known of this engine), `seconds` what the run takes.
    `machine` names another machine on which it was made (empty: this one)."""

    setting: Setting
    method: Method
    task: str
    seconds: float
    log_value: float | None = None
    p_ok: float = 1.0
    machine: str = ""

    @cached_property
    def key(self) -> tuple[str, ...]:
        """Tells places apart."""
        return self.machine, self.task, self.setting.id, self.method.id


@dataclass(frozen=True)
class Known:
    """A run that was made; `candidate` is what it was. `log_value` is None for one that failed; `meets`
    is False for one that breaks a limit, such as the quality floor. A run of another machine tells how
    methods compare, and nothing of this machine's level."""

    candidate: Candidate
    log_value: float | None
    meets: bool = True


@dataclass(frozen=True)
class Pick:
    """A run of the plan: its place among the candidates, its worth (log value over all tasks) and why."""

    place: int
    worth: float
    why: str


@dataclass(frozen=True)
class Picture:
    """Candidates and known runs as places: `place` of each candidate, the runs of each place (their log
    values), and the beliefs they leave."""

    candidates: tuple[Candidate, ...]
    place: Numbers
    values: Mapping[int, tuple[float, ...]]
    failed: frozenset[int]
    beliefs: Beliefs
    tasks: tuple[str, ...]


def worth(beliefs: Beliefs) -> Floats:
    """What `plan` and `tune` go by: the knowledge gradient of the places with most at stake, and a little
    for what is at stake itself."""
    stake = at_stake(beliefs)
    found = SETTLING * stake
    few = np.argsort(-stake, kind="stable")[:MOST]
    found[few] += gained(beliefs, few)
    return found


def picture(candidates: Sequence[Candidate], known: Sequence[Known], noise: float | None = None) -> Picture:
    """What is believed of all candidates after the known runs, also those of other tasks.

    noise: the error of one run (natural log), where it is known. Raises BadInput for no candidates.
    """
    if not candidates:
        raise BadInput("expected candidates to choose runs from, found none")
    _check(candidates)
    first: dict[tuple[str, ...], int] = {}
    every: list[Candidate] = []
    for one in [*candidates, *(run.candidate for run in known)]:
        if one.key not in first:
            first[one.key] = len(every)
            every.append(one)
    where = places(
        [c.setting for c in every], [c.method for c in every],
        [f"{c.machine} {c.task}" for c in every], [c.machine for c in every],
    )  # fmt: skip
    prior = np.array([np.nan if c.log_value is None else c.log_value for c in every])
    ran = [(first[run.candidate.key], run) for run in known]
    good = [(place, run.log_value) for place, run in ran if run.log_value is not None]
    rows = np.array([place for place, _ in good], dtype=np.intp)
    now = posterior(where, prior, rows, np.array([value for _, value in good], dtype=np.float64), noise=noise)
    alive = np.array([not one.machine for one in every])
    alive[[place for place, run in ran if run.log_value is None or not run.meets]] = False
    values: dict[int, tuple[float, ...]] = {}
    for place, value in good:
        values[place] = (*values.get(place, ()), value)
    tried = np.array([place for place, _ in ran], dtype=np.intp)
    worked = np.array([run.log_value is not None and run.meets for _, run in ran], dtype=np.float64)
    p_ok = chances(where, np.array([one.p_ok for one in every]), tried, worked)
    beliefs = Beliefs(now.mean, now.covariance, now.noise, where.task, alive, np.where(alive, p_ok, 0.0))
    own = np.array([first[one.key] for one in candidates], dtype=np.intp)
    failed = frozenset(place for place, run in ran if run.log_value is None)
    names = [""] * (int(where.task.max()) + 1)
    for code, one in zip(where.task.tolist(), every, strict=True):
        names[code] = one.task
    return Picture(tuple(every), own, values, failed, beliefs, tuple(names))


def _check(candidates: Sequence[Candidate]) -> None:
    for one in candidates:
        if not one.seconds > 0:
            raise BadInput(f"expected seconds above 0 for each candidate, found {one.seconds:g} ({one.task})")
        if not 0 <= one.p_ok <= 1:
            raise BadInput(f"expected a chance p_ok from 0 to 1, found {one.p_ok:g} ({one.task})")


def plan(
    candidates: Sequence[Candidate],
    known: Sequence[Known] = (),
    budget_s: float = float("inf"),
    most: int | None = None,
    rule: Rule = worth,
) -> list[Pick]:
    """The runs to make, in order: at most `most`, and together no longer than `budget_s` seconds.

    Runs that are known are not planned again. A candidate that does not fit in what is left of the time is
    passed over. Raises BadInput for no candidates, or seconds or chances that are none.
    """
    seen = picture(candidates, known)
    beliefs, seconds = seen.beliefs, np.array([one.seconds for one in seen.candidates])
    open_ = np.zeros(len(seconds), dtype=np.bool_)
    open_[seen.place] = True
    open_[[*seen.values, *seen.failed]] = False
    number = {place: i for i, place in reversed(list(enumerate(seen.place.tolist())))}
    picks: list[Pick] = []
    while open_.any() and (most is None or len(picks) < most):
        open_ &= seconds <= budget_s
        if not open_.any():
            break
        found = rule(beliefs) * beliefs.p_ok
        place = int(np.argmax(np.where(open_, found / seconds, -np.inf)))
        picks.append(Pick(number[place], float(found[place]), told(seen, beliefs, place)))
        budget_s -= float(seconds[place])
        open_[place] = False
        beliefs = after(beliefs, place)
    return picks


def after(beliefs: Beliefs, place: int) -> Beliefs:
    """What a run of a place with the expected result leaves: the same means, surer."""
    row = beliefs.covariance[place]
    pull = row / (row[place] + beliefs.noise**2)
    return replace(beliefs, covariance=beliefs.covariance - np.outer(pull, row))


def told(seen: Picture, beliefs: Beliefs, place: int) -> str:
    """Why a place is worth a run, in words."""
    best = int(beliefs.chosen()[place])
    task = seen.tasks[beliefs.task[place]]
    error = float(np.sqrt(max(beliefs.covariance[place, place], 0.0)))
    moved = beliefs.moved()[place]
    share = beliefs.alive & (np.abs(moved - moved[beliefs.chosen()]) > 0.01)
    tasks = len(np.unique(beliefs.task[share]))
    spread = known_to(error)
    if place == best:
        lead = f"the present choice of {task}, {spread}"
    else:
        gap = np.expm1(beliefs.mean[place] - beliefs.mean[best])
        lead = f"{gap:+.0%} against the present choice of {task}, {spread}"
    return lead + (f"; it also tells of {tasks - 1} other tasks" if tasks > 1 else "")


def known_to(error: float) -> str:
    """A standard deviation (natural log) in words."""
    return "its level not known" if error > UNKNOWN else f"known to ± {np.expm1(1.645 * error):.0%}"
