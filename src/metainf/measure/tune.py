"""The decision of `metainf tune`: which method to run next, when to stop, who wins, and on what proof.

Predict, measure the few runs that could change the choice, return the best that was really measured. A run
is worth what the choice is expected to gain by it (the knowledge gradient for this one task; runs of other
tasks on this machine move the beliefs too). A method whose run is within noise of the leader is run again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput
from metainf.learn.places import Numbers
from metainf.learn.views import Floats
from metainf.measure.beliefs import Beliefs
from metainf.measure.plan import Candidate, Known, known_to, picture, worth

Flags = NDArray[np.bool_]
DRAWS = 4000
"""Of a loss."""
AHEAD = 0.01
"""By less (natural log), another method is no better."""


@dataclass(frozen=True)
class Rules:
    """limit_s: all runs together take no longer. quality: the least quality, None for no floor.
    worth: stop where no run is expected to raise the choice by more (natural log; 0 runs everything once).
    repeats: runs of one method at most. share: of the candidates, the most that are run.
    noise: the error of one run (natural log), where it is known; otherwise it is learnt."""

    limit_s: float = float("inf")
    quality: float | None = None
    worth: float = 0.02
    repeats: int = 3
    share: float = 1.0
    noise: float | None = None


@dataclass(frozen=True)
class Ran:
    """What one run gave: the value to maximise (above 0) or None for a failure, the seconds that it took,
    its quality where it was measured, and what went wrong."""

    value: float | None
    seconds: float
    quality: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Try:
    """The next run: the number of the candidate, the seconds it may take at most, and why."""

    place: int
    at_most_s: float
    why: str


@dataclass(frozen=True)
class Verdict:
    """How a search ended. winner: number of the candidate, None where none worked and met the floor.

    value: the mean of its runs; runs: how many it had; ahead: the chance that the strongest other candidate
    is not better by more than AHEAD; gain: expected rise (natural log) by one more run; loss: what the best
    of all candidates is expected to be above the winner (natural log).
    """

    winner: int | None
    value: float | None
    runs: int
    ahead: float
    gain: float
    why: str
    loss: float = float("inf")


@dataclass(frozen=True)
class Search:
    """Candidates of one task, what was run (number of the candidate, result), and what was known before."""

    candidates: tuple[Candidate, ...]
    rules: Rules = field(default_factory=Rules)
    known: tuple[Known, ...] = ()
    runs: tuple[tuple[int, Ran], ...] = ()

    @property
    def spent_s(self) -> float:
        """Seconds of all runs."""
        return sum(ran.seconds for _, ran in self.runs)

    def after(self, place: int, ran: Ran) -> "Search":
        """The search with one more result."""
        if ran.value is not None and not (np.isfinite(ran.value) and ran.value > 0):
            raise BadInput(f"expected a value above 0 or None for a failure, found {ran.value!r}")
        return replace(self, runs=(*self.runs, (place, ran)))

    def meets(self, ran: Ran) -> bool:
        """Whether a run keeps the floor; where one is set, quality that was not measured does not."""
        floor = self.rules.quality
        return floor is None or (ran.quality is not None and ran.quality >= floor)


def search(candidates: Sequence[Candidate], rules: Rules = Rules(), known: Sequence[Known] = ()) -> Search:
    """A search to begin. Raises BadInput for no candidates, candidates of several tasks, one given twice, or
    rules that leave nothing to do."""
    if len({one.task for one in candidates}) != 1:
        raise BadInput(f"expected candidates of one task, found {len({c.task for c in candidates})} tasks")
    if len({(one.setting.id, one.method.id) for one in candidates}) < len(candidates):
        raise BadInput("expected each method once among the candidates, found one twice")
    if not rules.limit_s > 0 or rules.repeats < 1 or rules.worth < 0 or not 0 < rules.share <= 1:
        raise BadInput(
            "expected a time limit above 0 s, at least one run of a method, a worth of 0 or more and a share "
            f"above 0 up to 1, found {rules.limit_s:g} s, {rules.repeats}, {rules.worth:g}, {rules.share:g}"
        )
    return Search(tuple(candidates), rules, tuple(known))


def step(now: Search, stop: "Stop | None" = None) -> Try | Verdict:
    """What to do: one more run, or stop. stop: when enough is known; `enough` by default."""
    at = _standing(now)
    left = now.rules.limit_s - now.spent_s
    fresh = at.runs == 0
    may = at.alive & (at.runs < now.rules.repeats) & (at.seconds <= left)
    if np.sum(~fresh) >= max(1, int(now.rules.share * len(fresh))):
        may &= ~fresh
    if now.rules.worth == 0:
        may &= fresh
    if not at.proven.any():
        may &= fresh
        wanted = at.beliefs.mean + np.log(np.maximum(at.beliefs.p_ok, 1e-9))
    else:
        wanted = at.gain / at.seconds
    if not may.any():
        return _verdict(now, at, "no run is left" if not fresh.any() else "the time or the share is spent")
    if now.rules.worth > 0 and at.proven.any():
        if (stop or enough)(at, may, now.rules):
            return _verdict(now, at, "no run is expected to change the choice")
        if float(at.gain[may].max()) <= now.rules.worth and (fresh & may)[at.leader]:
            wanted = np.where(np.arange(len(fresh)) == at.leader, np.inf, wanted)
    place = int(np.argmax(np.where(may, wanted, -np.inf)))
    return Try(place, left, _why(at, place))


def enough(at: "Standing", may: Flags, rules: Rules) -> bool:
    """Whether what is believed best was run, and no run that may be made is expected to raise the choice by
    more than the worth of the rules."""
    awaited = may[at.leader] and at.runs[at.leader] == 0
    return float(at.gain[may].max()) <= rules.worth and not awaited


def tune(
    now: Search, run: Callable[[Candidate, float], Ran], stop: "Stop | None" = None
) -> tuple[Verdict, Search]:
    """Drive a search: `run(candidate, at_most_s)` measures one and takes no longer than it may.

    An interrupted caller keeps nothing here: the runs are its own records, and it may begin again with them
    as `known`.
    """
    while isinstance(found := step(now, stop), Try):
        now = now.after(found.place, run(now.candidates[found.place], found.at_most_s))
    return found, now


def stopped(now: Search, why: str) -> Verdict:
    """The verdict on a search that is ended from outside."""
    return _verdict(now, _standing(now), why)


def believed(now: Search) -> Floats:
    """The log value that is believed of each candidate."""
    return _standing(now).beliefs.mean


def foreseen(now: Search) -> list[Try]:
    """The runs that a search would make if each gave just what is expected of it and was as good as the plain
    method."""
    expected, steps = believed(now), []
    while isinstance(found := step(now), Try):
        steps.append(found)
        value = float(np.exp(expected[found.place]))
        now = now.after(found.place, Ran(value, now.candidates[found.place].seconds, 1.0))
    return steps


@dataclass(frozen=True)
class Standing:
    """What is believed of the candidates, how often each was run, which may win (alive) and which were run
    here, worked and keep the floor (proven), and what one more run of each is worth (gain)."""

    beliefs: Beliefs
    runs: Numbers
    seconds: Floats
    alive: Flags
    proven: Flags
    gain: Floats

    @property
    def leader(self) -> int:
        """What is believed best of all that may win."""
        return int(np.argmax(np.where(self.alive, self.beliefs.mean, -np.inf)))


Stop = Callable[[Standing, Flags, Rules], bool]
"""Whether enough is known, given where a search stands and which runs may be made."""


def _standing(now: Search) -> Standing:
    own = [
        Known(now.candidates[place], None if ran.value is None else float(np.log(ran.value)), now.meets(ran))
        for place, ran in now.runs
    ]
    seen = picture(now.candidates, [*now.known, *own], now.rules.noise)
    rows, every = seen.place, seen.beliefs
    covariance, task = every.covariance[np.ix_(rows, rows)], np.zeros(len(rows), dtype=np.intp)
    mine = Beliefs(every.mean[rows], covariance, every.noise, task, every.alive[rows], every.p_ok[rows])
    runs = np.bincount([place for place, _ in now.runs], minlength=len(rows))
    seconds = np.array([one.seconds for one in now.candidates])
    return Standing(mine, runs, seconds, mine.alive, mine.alive & (runs > 0), worth(mine) * mine.p_ok)


def _verdict(now: Search, at: Standing, why: str) -> Verdict:
    from scipy.special import ndtr

    gain, own = float(at.gain.max()), at.beliefs
    if not at.proven.any():
        return Verdict(None, None, 0, 0.0, gain, f"nothing worked and met the limits: {why}")
    winner = int(np.argmax(np.where(at.proven, own.mean, -np.inf)))
    values = [ran.value for place, ran in now.runs if place == winner and ran.value is not None]
    c = own.covariance
    apart = np.sqrt(np.maximum(np.diag(c) + c[winner, winner] - 2 * c[winner], 0.0)) + 1e-9
    lead = ndtr((own.mean[winner] - own.mean + AHEAD) / apart)
    rivals = at.alive & (np.arange(len(lead)) != winner)
    ahead = float(np.min(lead[rivals], initial=1.0))
    return Verdict(winner, float(np.mean(values)), len(values), ahead, gain, why, _loss(own, winner))


def _loss(beliefs: Beliefs, winner: int) -> float:
    """Expected log value of the best that may be chosen, above the winner's. By a fixed sample."""
    alive = np.flatnonzero(beliefs.alive)
    covariance = beliefs.covariance[np.ix_(alive, alive)]
    drawn = np.random.default_rng(0).multivariate_normal(
        beliefs.mean[alive], covariance, DRAWS, check_valid="ignore", method="eigh"
    )
    mine = int(np.flatnonzero(alive == winner)[0])
    return float(np.mean(drawn.max(axis=1) - drawn[:, mine]))


def _why(at: Standing, place: int) -> str:
    own = at.beliefs
    if at.runs[place]:
        return f"run {int(at.runs[place]) + 1}: it is within noise of another"
    best = int(own.chosen()[place])
    if best == place:
        return "believed best, not yet run"
    gap, error = np.expm1(own.mean[place] - own.mean[best]), np.sqrt(max(own.covariance[place, place], 0.0))
    return f"{gap:+.0%} against the leader, {known_to(error)}"
