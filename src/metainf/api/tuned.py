"""What a tuning found: the winner and its proof, and what else was run."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metainf.measure.order import Planned
    from metainf.measure.tune import Ran
    from metainf.measure.tuning import Contest
    from metainf.measure.tuning import Tuned as Made


@dataclass(frozen=True)
class Winner:
    """What tune gives: the method, how to start it, and its proof.

    `value` is the mean of its runs in the unit of the aim; `ratio` how much better it is than `baseline`, the
    unaccelerated method of its engine; `ahead` the chance that no other candidate is better by more than 1 %;
    `loss` how much better the best of all is expected to be, as a share.
    """

    name: str
    engine: str
    method: dict[str, Any]
    value: float
    runs: int
    quality: float | None
    command: str
    notes: tuple[str, ...]
    ahead: float
    loss: float
    baseline: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Tuned:
    """How a tuning went."""

    contest: "Contest"
    made: "Made"
    campaign: str
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def winner(self) -> Winner | None:
        """The best that was measured here and keeps the floor; None where there is none."""
        verdict, contest = self.made.verdict, self.contest
        if verdict.winner is None or verdict.value is None:
            return None
        planned, where = contest.planned[verdict.winner], contest.part_of[verdict.winner]
        assert planned.launch is not None
        command, notes = _start(planned)
        plain = [contest.aim.value(record) for record in self.made.plain.get(where, ())]
        told = [value for value in plain if value is not None]
        baseline = fmean(told) if told else None
        qualities = [r.quality for place, r in self.made.search.runs if place == verdict.winner]
        return Winner(
            name=planned.name,
            engine=planned.run.method.engine,
            method=planned.run.method.model_dump(mode="json", exclude_none=True),
            value=contest.aim.shown(verdict.value),
            runs=verdict.runs,
            quality=min((quality for quality in qualities if quality is not None), default=None),
            command=command,
            notes=notes,
            ahead=verdict.ahead,
            loss=math.expm1(verdict.loss),
            baseline=None if baseline is None else contest.aim.shown(baseline),
            ratio=None if baseline is None else verdict.value / baseline,
        )

    def runs(self) -> list[dict[str, Any]]:
        """What was run, the best first; failures and what broke the floor last, with the reason."""
        groups: dict[int, list[Ran]] = {}
        for place, ran in self.made.search.runs:
            groups.setdefault(place, []).append(ran)
        rows = [self._row(place, some) for place, some in groups.items()]
        sign = -1.0 if self.contest.aim.more else 1.0
        return sorted(rows, key=lambda row: (row["wrong"] is not None, sign * (row["value"] or 0.0)))

    def _row(self, place: int, some: "Sequence[Ran]") -> dict[str, Any]:
        values = [ran.value for ran in some if ran.value is not None]
        wrong = next((ran.error for ran in some if ran.error is not None), None)
        if wrong is None and not all(self.made.search.meets(ran) for ran in some):
            wrong = (
                "below the least quality" if some[0].quality is not None else "its quality was not measured"
            )
        return {
            "method": self.contest.planned[place].name,
            "engine": self.contest.planned[place].run.method.engine,
            "value": self.contest.aim.shown(fmean(values)) if values else None,
            "quality": next((ran.quality for ran in some if ran.quality is not None), None),
            "runs": len(some),
            "seconds": sum(ran.seconds for ran in some),
            "wrong": wrong,
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        search, contest = self.made.search, self.contest
        winner = self.winner
        return {
            "campaign": self.campaign,
            "aim": contest.aim.name,
            "unit": contest.aim.unit,
            "winner": None if winner is None else asdict(winner),
            "why": self.made.verdict.why,
            "candidates": len(search.candidates),
            "candidates_run": len({place for place, _ in search.runs}),
            "seconds": search.spent_s,
            "interrupted": self.made.interrupted,
            "runs": self.runs(),
            "left_out": dict(self.left_out),
            "warnings": self.made.warnings,
            "records": [record for _, record in self.made.records],
        }


def _start(planned: "Planned") -> tuple[str, tuple[str, ...]]:
    """The command that starts the engine so, and what to know of it."""
    from metainf.measure.programs import runnable

    launch = planned.launch
    assert launch is not None
    program, argv = launch.argv[0], runnable(launch.argv)
    if argv[1:2] != ("-m",) or launch.argv[1:2] == ("-m",):
        return launch.command, launch.notes
    stand_in = f"{program} is not on PATH; `{shlex.join(('python', *argv[1:3]))}` takes the same words"
    return launch.command, (*launch.notes, stand_in)
