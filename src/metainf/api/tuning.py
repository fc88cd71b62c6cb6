"""Tune: predict, measure the few methods that could be best, and give the winner with its proof."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from metainf.api.contenders import Tuning, entries, parts
from metainf.api.planning import earlier_runs, prior_of
from metainf.api.tuned import Tuned

if TYPE_CHECKING:
    from metainf.engines.serving import ServingEngine
    from metainf.measure.sweep import Tell
    from metainf.measure.tuning import Contest
    from metainf.store import Store


@dataclass(frozen=True)
class Prospect:
    """A search that can begin. `left_out` tells which engines and methods are no candidates, and why."""

    contest: "Contest"
    engine_of: "Callable[[str], ServingEngine]"
    campaign: str
    left_out: tuple[tuple[str, str], ...]
    learnt_from: int

    def rows(self) -> list[dict[str, Any]]:
        """The candidates, those first that would be run, in their order if all goes as expected."""
        from metainf.measure.tune import believed, foreseen

        steps = foreseen(self.contest.search)
        values, whys = believed(self.contest.search), dict[int, str]()
        for one in steps:
            whys.setdefault(one.place, one.why)
        rest = [place for place in range(len(values)) if place not in whys]
        order = [*whys, *sorted(rest, key=lambda place: -values[place])]
        surely = any(one.log_value is not None for one in self.contest.search.candidates)
        aim = self.contest.aim
        return [
            {
                "method": self.contest.planned[place].name,
                "engine": self.contest.planned[place].run.method.engine,
                "expected": aim.shown(math.exp(values[place])) if surely or self.learnt_from else None,
                "expected_s": round(self.contest.planned[place].expected_s, 1),
                "why": whys.get(place),
            }
            for place in order
        ]


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
    known = known_of(earlier, candidates, aim, prior, forgive=True)
    rules = Rules(asked.time_limit_s, asked.least_quality, repeats=asked.repeats, share=asked.share)
    shares = tuple(Part(replace(each.order, asks_plain=True), each.layout) for each in prepared)
    contest = Contest(aim, search(candidates, rules, known), tuple(planned), tuple(part_of), shares)
    return Prospect(contest, prepared[0].engine_of, campaign, tuple(left_out), len(known))


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
