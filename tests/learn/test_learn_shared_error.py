"""Choosing under a limit with errors that options share."""

import numpy as np

from metainf.learn.shared_error import Gambles, expected_share, expected_share_at


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


def at_places(value: list[float], metric: list[float], scale: float, *places: float) -> np.ndarray:
    number = len(value)
    options = Gambles(np.log(value), np.log(metric), np.full(number, scale), np.zeros(number))
    return expected_share_at(options, places, np.random.default_rng(0))


def test_a_limit_known_by_its_place_admits_that_share_of_the_options() -> None:
    value, metric = [1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, 0.3, 0.4, 0.5]
    found = at_places(value, metric, 1e-6, 0.25, 0.5, 1.0)
    assert np.argmax(found, axis=0).tolist() == [1, 2, 4]
    np.testing.assert_allclose(np.exp(found[:2, 0]), [0.5, 1.0], atol=1e-5)


def test_a_limit_known_by_its_place_forgets_the_level_of_the_forecast() -> None:
    value, metric = [1.0, 1.2, 1.5], [0.1, 0.15, 0.2]
    slower = [7 * seconds for seconds in metric]
    np.testing.assert_allclose(at_places(value, metric, 0.2, 0.5), at_places(value, slower, 0.2, 0.5))


def test_of_equal_values_the_one_with_more_room_wins_more_often() -> None:
    found = at_places([1.0, 1.0, 1.0, 1.0], [0.1, 0.12, 0.14, 0.3], 0.2, 0.5)[:, 0]
    assert np.array_equal(np.argsort(-found), [0, 1, 2, 3])
