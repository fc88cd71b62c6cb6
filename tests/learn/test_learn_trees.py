"""Boosted trees through the C library say what they were taught."""

import numpy as np
import pytest

from metainf.domain import ArtifactError
from metainf.learn.trees import Trees, train

EXACT = {"max_depth": 1, "eta": 1.0, "reg_lambda": 0.0, "base_score": 0.0, "min_child_weight": 0.0}
X = np.arange(10, dtype=np.float32).reshape(-1, 1)
STEP = np.where(X[:, 0] < 5, -1.0, 3.0)


def test_a_step_is_learnt_exactly() -> None:
    trees = Trees(train(X, STEP, EXACT, 1))
    np.testing.assert_array_equal(trees.predict(X), STEP)
    outside = np.array([[-100.0], [100.0], [4.0], [5.0]], dtype=np.float32)
    np.testing.assert_array_equal(trees.predict(outside), [-1.0, 3.0, -1.0, 3.0])


@pytest.mark.parametrize(("unknown", "side"), [(-1.0, -1.0), (3.0, 3.0)])
def test_unknown_goes_to_the_side_on_which_it_was_seen(unknown: float, side: float) -> None:
    features = np.concatenate([X, np.full((4, 1), np.nan, dtype=np.float32)])
    trees = Trees(train(features, np.append(STEP, [unknown] * 4), EXACT, 1))
    np.testing.assert_array_equal(trees.predict(np.array([[np.nan]], dtype=np.float32)), [side])


def test_weights_move_a_leaf() -> None:
    features = np.zeros((2, 1), dtype=np.float32)
    model = train(features, np.array([0.0, 10.0]), EXACT, 1, np.array([3.0, 1.0]))
    np.testing.assert_allclose(Trees(model).predict(features), [2.5, 2.5])


def wavy() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    features = rng.normal(size=(80, 4)).astype(np.float32)
    features[rng.random((80, 4)) < 0.1] = np.nan
    return features, np.nansum(features[:, :2], axis=1) + np.where(features[:, 2] > 0, 2.0, 0.0)


def test_contributions_sum_to_the_prediction() -> None:
    features, target = wavy()
    trees = Trees(train(features, target, {"max_depth": 3}, 20))
    shares = trees.contributions(features)
    assert shares.shape == (80, 5)
    np.testing.assert_allclose(shares.sum(axis=1), trees.predict(features), atol=1e-4)
    assert np.abs(shares[:, 3]).mean() < np.abs(shares[:, 0]).mean(), "the unused feature matters least"


def test_gain_names_the_features_that_matter() -> None:
    trees = Trees(train(np.hstack([X * 0, X]), STEP, EXACT, 1))
    gain = trees.gain()
    assert gain[:, 0].tolist() == [1.0] and gain[0, 1] > 0


def test_training_and_prediction_are_deterministic() -> None:
    features, target = wavy()
    options = {"max_depth": 3, "subsample": 0.7, "nthread": 1}
    first, second = (train(features, target, options, 10) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(Trees(first).predict(features), Trees(second).predict(features))


def test_the_layout_in_memory_does_not_matter() -> None:
    features, target = wavy()
    trees = Trees(train(features, target, {"max_depth": 3}, 5))
    expected = trees.predict(features)
    np.testing.assert_array_equal(trees.predict(np.asfortranarray(features)), expected)
    np.testing.assert_array_equal(trees.predict(features[::-1])[::-1], expected)
    np.testing.assert_array_equal(trees.predict(features.astype(np.float64)), expected)  # type: ignore[arg-type]
    assert trees.predict(features[:0]).shape == (0,)


@pytest.mark.parametrize("garbage", [b"garbage", b"{", b"{}", b'{"learner": 7}', bytes(64)])
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(ArtifactError, match="boosted-tree"):
        Trees(garbage)


def test_the_wrong_number_of_features_is_refused() -> None:
    trees = Trees(train(X, STEP, EXACT, 1))
    with pytest.raises(ArtifactError):
        trees.predict(np.zeros((2, 3), dtype=np.float32))
