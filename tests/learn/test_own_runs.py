"""Few own runs make predictions on this machine right, and say how sure they are."""

import sys
from pathlib import Path

import numpy as np
import pytest

from metainf.domain import Device, Failed, Hardware
from metainf.learn.forecast import Forecast
from metainf.learn.local import Sizes, posterior
from metainf.learn.own_runs import OwnRuns
from metainf.learn.places import places

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "measure"))
from planned_runs import HARDWARE, METHODS, MODEL, candidates, log_value, record, truth, workload

RATE = "output_tokens_per_s"
PAIRS = [(HARDWARE, method) for method in METHODS.values()]


class Wrong:
    """Knows the machine but for a factor of 3, and one technique."""

    def forecast(self, model, work, pairs):  # type: ignore[no-untyped-def]
        said = np.array([log_value(work, method) + np.log(3) for _, method in pairs])
        return Forecast(
            {"output_tokens_per_s": said},
            {"output_tokens_per_s": np.full(len(pairs), 0.8)},
            np.ones(len(pairs)),
        )


def errors(predictor: OwnRuns, names: tuple[str, ...] = ("half",)) -> tuple[float, float]:
    """Mean absolute log error and coverage of 90 % intervals, on the loads of some workloads."""
    error, inside = [], []
    for name in names:
        for load in (1, 4, 16):
            work = workload(name, load)
            said = predictor.forecast(MODEL, work, PAIRS)
            true = np.array([log_value(work, method) for _, method in PAIRS])
            middle, low, high = said.log_bounds(RATE)
            error.append(np.abs(middle - true))
            inside.append((true >= low) & (true <= high))
    return float(np.mean(error)), float(np.mean(inside))


def test_without_runs_the_base_stands() -> None:
    work = workload("half", 4)
    said = OwnRuns.of(Wrong(), []).forecast(MODEL, work, PAIRS).log_median[RATE]
    assert np.array_equal(said, Wrong().forecast(MODEL, work, PAIRS).log_median[RATE])
    assert OwnRuns.of(None, []).forecast(MODEL, workload("half", 4), PAIRS).log_median == {}


def test_runs_of_other_tasks_correct_the_level_and_then_the_rest() -> None:
    runs = [record(one) for one in candidates(("chat", "shared", "long"))]
    few = [runs[i] for i in np.random.default_rng(0).permutation(len(runs))[:6]]
    none, some, all_ = (errors(OwnRuns.of(Wrong(), own))[0] for own in ([], few, runs))
    assert none == pytest.approx(np.log(3)) and some < 0.25 * none and all_ < 0.1 * none


def test_an_engine_never_seen_is_learnt_from_runs_alone() -> None:
    runs = [record(one) for one in candidates(("chat", "shared", "long"))]
    error, covered = errors(OwnRuns.of(None, runs))
    assert error < 0.35 and covered > 0.7


def test_more_runs_narrow_the_intervals() -> None:
    runs = [record(one) for one in candidates(("chat", "shared", "long"))]
    wide = OwnRuns.of(Wrong(), runs[:3]).forecast(MODEL, workload("half", 4), PAIRS)
    narrow = OwnRuns.of(Wrong(), runs).forecast(MODEL, workload("half", 4), PAIRS)
    assert np.median(narrow.log_scale[RATE]) < np.median(wide.log_scale[RATE])


def test_other_devices_are_left_alone() -> None:
    runs = [record(one) for one in candidates(("chat",))]
    other = Hardware(device=Device(name="a-gpu"), count=1)
    pairs = [*PAIRS, (other, PAIRS[0][1])]
    said = OwnRuns.of(Wrong(), runs).forecast(MODEL, workload("chat", 4), pairs).log_median[RATE]
    before = Wrong().forecast(MODEL, workload("chat", 4), pairs).log_median[RATE]
    assert said[-1] == before[-1] and np.all(said[:-1] != before[:-1])


def test_failures_lower_the_chance_of_like_runs() -> None:
    runs = [
        record(one).model_copy(update={"outcome": Failed(reason="crashed")})
        for one in candidates(("chat",)) if one.method.engine == "two"
    ]  # fmt: skip
    said = OwnRuns.of(None, runs).forecast(MODEL, workload("chat", 4), PAIRS)
    engines = np.array([method.engine for _, method in PAIRS])
    assert said.p_ok[engines == "two"].max() < 0.7 < said.p_ok[engines == "one"].min()


def test_seeing_a_run_equals_fitting_with_it() -> None:
    every = candidates(("chat", "shared"))
    where = places([c.setting for c in every], [c.method for c in every], [c.task for c in every])
    prior, shown = np.full(len(every), np.nan), np.array([truth(one) for one in every])
    first = posterior(where, prior, np.array([0, 7]), shown[[0, 7]], Sizes())
    both = posterior(where, prior, np.array([0, 7, 11]), shown[[0, 7, 11]], Sizes())
    moved = first.seen(11, float(shown[11]))
    assert np.allclose(moved.covariance, both.covariance)
    mine = where.task == where.task[11]
    apart = (moved.mean - both.mean)[mine]
    assert np.ptp(apart) < 0.01 and abs(moved.mean[11] - shown[11]) < 0.05


def test_covariances_are_positive() -> None:
    every = candidates()
    where = places([c.setting for c in every], [c.method for c in every], [c.task for c in every])
    found = posterior(where, np.full(len(every), np.nan), np.zeros(0, dtype=np.intp), np.zeros(0))
    assert np.linalg.eigvalsh(found.covariance).min() > 0
