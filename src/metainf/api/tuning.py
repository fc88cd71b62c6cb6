"""Tune: predict, measure the few methods that could be best, and give the winner with its proof."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from metainf.api.choosing import load_predictor
from metainf.api.contenders import Tuning, entries, parts
from metainf.api.planning import earlier_runs, forecasts_level, lessons, prior_of
from metainf.api.tuned import Tuned

if TYPE_CHECKING:
    from metainf.engines.measurable import Measurable
    from metainf.learn.views import Floats
    from metainf.measure.plan import Known
    from metainf.measure.sweep import Tell
    from metainf.measure.tuning import Contest
    from metainf.store import Store


ARITHMETIC = "arithmetic"
"""What a forecast is called of an engine or a device that its history does not know."""


@dataclass(frozen=True)
class Prospect:
    """A search that can begin. `left_out` tells which engines and methods are no candidates, and why;
    `own` is what earlier runs on this machine tell, `lessons` how methods compare on others."""

    contest: "Contest"
    engine_of: "Callable[[str], Measurable]"
    campaign: str
    left_out: tuple[tuple[str, str], ...]
    own: "tuple[Known, ...]" = ()
    lessons: "tuple[Known, ...]" = ()
    levels: frozenset[str] = frozenset()
    """Engines of which the predictor's history says how fast they are here."""

    def rows(self) -> list[dict[str, Any]]:
        """The candidates, those first that would be run, in their order if all goes as expected.

        `expected` is in the unit of the aim, absent where this machine's level is not known; `ratio` is over
        the unaccelerated method of the same engine, in what is maximised; `known_from` tells where both are
        from.
        """
        from metainf.measure.tune import believed, foreseen

        steps = foreseen(self.contest.search)
        values, whys = believed(self.contest.search), dict[int, str]()
        for one in steps:
            whys.setdefault(one.place, one.why)
        rest = [place for place in range(len(values)) if place not in whys]
        order = [*whys, *sorted(rest, key=lambda place: -values[place])]
        aim = self.contest.aim
        return [
            {
                "method": self.contest.planned[place].name,
                "engine": self.contest.planned[place].run.method.engine,
                "expected": aim.shown(math.exp(values[place])) if self.levels or self.own else None,
                "ratio": self._ratio(place, values),
                "known_from": self.known_from(place),
                "expected_s": round(self.contest.planned[place].expected_s, 1),
                "why": whys.get(place),
            }
            for place in order
        ]

    def known_from(self, place: int) -> list[str]:
        """Where what is expected of a candidate comes from; nothing where nothing is known of its engine."""
        one = self.contest.search.candidates[place]
        engine = one.method.engine
        told = {
            "forecast": one.log_value is not None and engine in self.levels,
            ARITHMETIC: one.log_value is not None and engine not in self.levels,
            "own runs": any(run.candidate.method.engine == engine for run in self.own),
            "study": any(run.candidate.method.engine == engine for run in self.lessons),
        }
        return [name for name, so in told.items() if so]

    @property
    def teachers(self) -> list[str]:
        """The machines whose runs are lessons."""
        return sorted({run.candidate.machine for run in self.lessons})

    def _ratio(self, place: int, values: "Floats") -> float | None:
        """What is believed of a candidate over the unaccelerated method of its engine; None where that is no
        candidate or nothing is known."""
        part = self.contest.part_of[place]
        plain = self.contest.parts[part].plain
        if plain is None or not self.known_from(place):
            return None
        for other, planned in enumerate(self.contest.planned):
            if self.contest.part_of[other] == part and planned.run.method == plain.run.method:
                return math.exp(float(values[place] - values[other]))
        return None


def prepare_tuning(asked: Tuning, store: "Store | None" = None) -> Prospect:
    """Find the candidates, without starting anything. Raises BadInput, UnknownName, MissingExtra (no engine
    is here, with the pip line) and NotSupported (nothing fits, with the arithmetic)."""
    from metainf.measure.earlier import aim_of, candidates_of, known_of
    from metainf.measure.tune import Rules, search
    from metainf.measure.tuning import Contest, Part

    aim = aim_of(asked.aim)
    prior = prior_of(aim, asked.predictor)
    campaign = f"tune-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
    prepared, left_out = parts(asked, store, campaign)
    planned, part_of = entries(asked, prepared, left_out)
    candidates = candidates_of(planned, prior)
    earlier = earlier_runs(store, candidates)
    known = known_of(earlier, candidates, aim, prior, True, asked.least_quality)
    rules = Rules(asked.time_limit_s, asked.least_quality, repeats=asked.repeats, share=asked.share)
    shares = tuple(Part(replace(each.order, asks_plain=True), each.layout) for each in prepared)
    taught = lessons(earlier, candidates, aim, prior, asked.least_quality)
    trained = load_predictor(asked.predictor)
    levels = {
        one.method.engine
        for one in candidates
        if one.log_value is not None and forecasts_level(trained, one.setting, one.method)
    }
    begun = search(candidates, rules, [*known, *taught])
    contest = Contest(aim, begun, tuple(planned), tuple(part_of), shares)
    return Prospect(
        contest, prepared[0].engine_of, campaign, tuple(left_out), tuple(known), tuple(taught),
        frozenset(levels),
    )  # fmt: skip


def tune(prospect: Prospect, store: "Store | None", tell: "Tell | None" = None) -> Tuned:
    """Make the runs; each record is in the store as it is made. ^C gives the best of what was run."""
    from metainf.measure.tuning import tuned

    said = (lambda _: None) if tell is None else tell
    return Tuned(
        prospect.contest,
        tuned(prospect.contest, store, prospect.engine_of, said),
        prospect.campaign,
        prospect.left_out,
    )
