"""Every rule to stop by ends a search with a winner, and a looser bar never takes more runs."""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from planned_runs import candidates, truth

from metainf.measure.plan import Candidate
from metainf.measure.tune import Ran, search, tune

pytest.importorskip("sklearn")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from stopping import OURS, STOPS, stop_rows, stops

TASKS = ("chat 16", "shared 1", "half 4")


def run(one: Candidate, _: float) -> Ran:
    return Ran(math.exp(truth(one)), 60.0)


def runs(name: str, bar: float) -> tuple[int, float]:
    """Runs of all tasks, and what was lost in them on average (natural log)."""
    made, lost = 0, []
    for task in TASKS:
        every = [one for one in candidates(prior=True) if one.task == task]
        verdict, done = tune(search(every), run, partial(STOPS[name][0], bar))
        assert verdict.winner is not None
        made += len(done.runs)
        lost.append(max(map(truth, every)) - truth(every[verdict.winner]))
    return made, float(np.mean(lost))


@pytest.mark.parametrize("name", STOPS)
def test_a_looser_bar_takes_no_more_runs(name: str) -> None:
    bars = STOPS[name][1]
    (few, _), (many, lost) = (runs(name, bar) for bar in (max(bars), min(bars)))
    if name == "so many methods were run":
        (few, many), (_, lost) = (many, few), runs(name, max(bars))
        assert (few, many) == (len(TASKS), len(TASKS) * max(bars))
    assert len(TASKS) <= few <= many <= 10 * len(TASKS) and lost < 0.5


def test_all_of_them_are_told_in_one_table() -> None:
    kinds = {("nothing", "alone"): {"here": [[0.01, 0.2, 0.1]], "there": [[0.03, 0.4, 0.1]]}}
    text = stop_rows({(name, bar): kinds for name, bar, _ in stops()})
    assert text.count("0.020 at 30%") == sum(len(bars) for _, bars in STOPS.values())
    assert f"**{OURS}**" in text
