"""Choosing under a limit with errors that options share."""

import numpy as np

from metainf.learn.shared_error import Gambles, expected_share


def scores(value: list[float], metric: list[float], scale: float, allowed: float) -> np.ndarray:
    number = len(value)
    options = Gambles(np.log(value), np.log(metric), np.full(number, scale), np.full(number, 0.9))
    return expected_share(options, np.log([allowed]), np.random.default_rng(0))[:, 0]


def test_without_error_the_best_feasible_option_wins() -> None:
    found = scores([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], 1e-3, 0.25)
    assert np.argmax(found) == 1
    assert found[1] > found[0] > found[2]


def test_with_error_an_option_at_the_limit_yields_to_one_with_room() -> None:
    value, metric = [1.0, 0.8], [0.099, 0.07]
    assert np.argmax(scores(value, metric, 0.01, 0.1)) == 0
    assert np.argmax(scores(value, metric, 0.2, 0.1)) == 1


def test_scores_are_shares() -> None:
    found = np.exp(scores([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], 0.3, 0.2))
    assert (found > 0).all() and (found <= 1 + 1e-5).all()


def test_where_nothing_is_feasible_the_least_metric_comes_first() -> None:
    assert np.argmax(scores([1.0, 2.0, 3.0], [5.0, 4.0, 6.0], 0.05, 0.1)) == 1


def test_equal_draws_give_equal_scores() -> None:
    assert np.array_equal(
        scores([1.0, 2.0], [0.1, 0.2], 0.2, 0.15), scores([1.0, 2.0], [0.1, 0.2], 0.2, 0.15)
    )
