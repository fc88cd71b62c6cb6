"""The contract of every learner. Inherit `LearnerSuite` in a test class and fill in its two hooks."""

import numpy as np

from metainf.domain import Metrics
from metainf.learn.forecast import Forecast, Learner
from metainf.learn.table import Table
from metainf.learn.views import Floats


class LearnerSuite:
    """From a table to predictive distributions: finite, whole, repeatable, and without side effects.

    `table` should have at least one metric with enough rows for the learner to learn it. `tolerance` is how
    far two forecasts of one row may differ on the log scale (0: not at all).
    """

    tolerance: float = 0.0

    def learner(self) -> Learner:
        """A fresh learner, not fitted."""
        raise NotImplementedError

    def table(self) -> Table:
        """Rows to learn from and to forecast."""
        raise NotImplementedError

    def forecast(self) -> Forecast:
        """What a fresh learner, fitted on the table, says of its rows."""
        return self.learner().fit(self.table()).forecast(self.table().columns)

    def test_fit_returns_the_learner(self) -> None:
        learner = self.learner()
        assert learner.fit(self.table()) is learner

    def test_at_least_one_metric_and_each_a_metrics_field(self) -> None:
        found = self.forecast()
        assert found.log_median, "nothing was learnt"
        assert set(found.log_median) == set(found.log_scale)
        assert set(found.log_median) <= set(Metrics.model_fields)

    def test_one_number_for_each_row(self) -> None:
        found, rows = self.forecast(), len(self.table())
        for metric in found.log_median:
            assert found.log_median[metric].shape == (rows,), metric
            assert found.log_scale[metric].shape == (rows,), metric
        assert found.p_ok.shape == (rows,)

    def test_medians_are_finite_and_scales_positive(self) -> None:
        found = self.forecast()
        for metric in found.log_median:
            assert np.isfinite(found.log_median[metric]).all(), metric
            assert np.isfinite(found.log_scale[metric]).all(), metric
            assert (found.log_scale[metric] > 0).all(), metric

    def test_p_ok_is_a_probability(self) -> None:
        chance = self.forecast().p_ok
        assert ((chance >= 0) & (chance <= 1)).all()

    def test_deterministic(self) -> None:
        self._same(self.forecast(), self.forecast())

    def test_a_forecast_does_not_change_the_learner(self) -> None:
        table = self.table()
        learner = self.learner().fit(table)
        first = learner.forecast(table.columns)
        learner.forecast(table.take(np.arange(len(table))[::-1][:2]).columns)
        self._same(first, learner.forecast(table.columns))

    def test_rows_do_not_depend_on_their_neighbours(self) -> None:
        table = self.table()
        learner = self.learner().fit(table)
        whole, some = learner.forecast(table.columns), np.array([len(table) - 1, 0])
        part = learner.forecast(table.take(some).columns)
        assert set(part.log_median) == set(whole.log_median)
        for metric in part.log_median:
            self._close(part.log_median[metric], whole.log_median[metric][some])
            self._close(part.log_scale[metric], whole.log_scale[metric][some])
        self._close(part.p_ok, whole.p_ok[some])

    def test_the_table_is_left_as_it_was(self) -> None:
        table, before = self.table(), self.table()
        self.learner().fit(table).forecast(table.columns)
        assert set(table.columns) == set(before.columns) and set(table.metrics) == set(before.metrics)
        for parts, kept in (
            (table.columns, before.columns), (table.metrics, before.metrics), (table.keys, before.keys)
        ):  # fmt: skip
            for name in kept:
                np.testing.assert_array_equal(parts[name], kept[name], err_msg=name)
        np.testing.assert_array_equal(table.ok, before.ok)

    def _same(self, found: Forecast, expected: Forecast) -> None:
        assert set(found.log_median) == set(expected.log_median)
        for metric in expected.log_median:
            self._close(found.log_median[metric], expected.log_median[metric])
            self._close(found.log_scale[metric], expected.log_scale[metric])
        self._close(found.p_ok, expected.p_ok)

    def _close(self, found: Floats, expected: Floats) -> None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=self.tolerance)
