"""The paper's regression keeps the learner's promises, and learns what is there to learn."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learn_tables import fixed, many

from metainf.learn.forecast import Forecast, Learner
from metainf.learn.regression import Regression, forest
from metainf.learn.table import Table
from metainf.testing.learner_suite import LearnerSuite


@cache
def rows() -> Table:
    return many()


def copy(table: Table) -> Table:
    return table.take(np.arange(len(table)))


class TestRegression(LearnerSuite):
    def learner(self) -> Learner:
        return Regression()

    def table(self) -> Table:
        return copy(rows())

    def test_the_smooth_law_is_learnt(self) -> None:
        found, known = self.forecast(), rows().ok
        assert set(found.log_median) == {"tpot_s", "output_tokens_per_s"}
        gap = np.abs(found.log_median["tpot_s"] - np.log(rows().metrics["tpot_s"]))[known]
        assert np.median(gap) < 0.1


class TestOneHotRegression(TestRegression):
    def learner(self) -> Learner:
        return Regression(kind="onehot")

    def test_the_smooth_law_is_learnt(self) -> None:
        assert self.forecast().log_median, "names alone need not be enough"


def test_too_few_rows_teach_nothing() -> None:
    assert Regression().fit(fixed()).forecast(fixed().columns).log_median == {}


def test_the_forest_learns_too() -> None:
    pytest.importorskip("sklearn")
    found = Regression(forest).fit(rows()).forecast(rows().columns)
    gap = np.abs(found.log_median["tpot_s"] - np.log(rows().metrics["tpot_s"]))[rows().ok]
    assert np.isfinite(gap).all() and np.median(gap) < np.log(rows().metrics["tpot_s"])[rows().ok].std()


@given(st.floats(-20, 20), st.floats(1e-6, 3))
def test_bounds_are_a_ninety_percent_interval(median: float, scale: float) -> None:
    found = Forecast({"tpot_s": np.array([median])}, {"tpot_s": np.array([scale])})
    middle, low, high = (float(part[0]) for part in found.bounds("tpot_s"))
    assert 0 < low <= middle <= high
    assert middle == pytest.approx(math.exp(median))
    inside = math.erf(math.log(high / low) / 2 / scale / math.sqrt(2))
    assert inside == pytest.approx(0.9, abs=1e-6)
    assert low * high == pytest.approx(middle**2)
