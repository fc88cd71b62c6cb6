"""Boosted trees say what they were taught, and the same as XGBoost says."""

import numpy as np
import pytest

from metainf.domain import ArtifactError, BadInput
from metainf.learn.trees import Forest, Trees, train

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


def xgboost_values(model_options: dict, features: np.ndarray, target: np.ndarray, rounds: int):  # type: ignore[no-untyped-def]
    """(our trees, XGBoost's own predictions, its own SHAP values) of one training."""
    import xgboost

    data = xgboost.DMatrix(features, label=target)
    booster = xgboost.train({"verbosity": 0, "nthread": 2, "seed": 0, **model_options}, data, rounds)
    ours = Trees(train(features, target, model_options, rounds))
    return ours, booster.predict(data), booster.predict(data, pred_contribs=True)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("objective", ["reg:squarederror", "reg:pseudohubererror"])
def test_predictions_and_shap_equal_those_of_xgboost(depth: int, objective: str) -> None:
    rng = np.random.default_rng(depth)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    features[:, 3] = rng.integers(0, 3, 300)
    features[rng.random((300, 6)) < 0.15] = np.nan
    target = np.nansum(features, axis=1) ** 2 + rng.normal(size=300)
    options = {"max_depth": depth, "objective": objective, "base_score": 0.7, "lambda": 0.1}
    ours, values, shares = xgboost_values(options, features, target, 25)
    np.testing.assert_allclose(ours.predict(features), values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.contributions(features), shares, rtol=1e-4, atol=2e-5)


def test_values_at_a_threshold_go_where_xgboost_sends_them() -> None:
    features = np.repeat(np.arange(5, dtype=np.float32), 4)[:, None]
    ours, values, _ = xgboost_values({"max_depth": 3}, features, features[:, 0] ** 2.0, 10)
    np.testing.assert_allclose(ours.predict(features), values, rtol=1e-6)
    step = np.unique(ours.flat.threshold)[:1]
    below, at = np.nextafter(step, np.float32(-np.inf)), step
    np.testing.assert_array_equal(ours.predict(at[:, None]), ours.predict(at[:, None] + 0.1))
    assert ours.predict(below[:, None])[0] != ours.predict(at[:, None])[0]


def test_a_forest_gives_the_mean_of_each_group() -> None:
    features, target = wavy()
    small, large = (
        [Trees(train(features, target, {"max_depth": d, "seed": s}, 7)) for s in (1, 2)] for d in (2, 6)
    )
    found = Forest({"small": small, "large": large}).predict(features)
    for name, members in (("small", small), ("large", large)):
        expected = np.mean([member.predict(features) for member in members], axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    features, target = wavy()
    trees = Trees(train(features, target, {"max_depth": 4}, 9))
    together = trees.predict(np.concatenate([features, features[::-1], features[:1]]))
    alone = np.concatenate([trees.predict(features[i : i + 1]) for i in range(len(features))])
    np.testing.assert_array_equal(together, np.concatenate([alone, alone[::-1], alone[:1]]))


def test_a_tree_that_never_splits_is_its_leaf() -> None:
    features = np.zeros((4, 2), dtype=np.float32)
    ours, values, shares = xgboost_values({"base_score": 1.0}, features, np.full(4, 3.0), 3)
    np.testing.assert_allclose(ours.predict(features), values, rtol=1e-6)
    np.testing.assert_allclose(ours.contributions(features), shares, rtol=1e-6)


def test_forests_of_other_features_do_not_mix() -> None:
    one, two = Trees(train(X, STEP, EXACT, 1)), Trees(train(np.hstack([X, X]), STEP, EXACT, 1))
    with pytest.raises(ArtifactError, match="features"):
        Forest({"both": [one, two]})


@pytest.mark.parametrize("options", [{"max_depth": 7}, {"max_depth": 2, "objective": "reg:logistic"}])
def test_what_has_no_flat_form_is_refused_in_training(options: dict) -> None:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 3)).astype(np.float32)
    with pytest.raises(BadInput, match="expected"):
        train(features, rng.random(2000), options | {"min_child_weight": 0, "lambda": 0.0}, 2)


def test_a_model_cut_short_or_changed_is_refused() -> None:
    model = train(X, STEP, EXACT, 2)
    for data in (model[:-1], model + b"x", model[:20], b"MTREES1\n", model[:8] + b"\xff" * 16 + model[24:]):
        with pytest.raises(ArtifactError, match="boosted-tree"):
            Trees(data)


def test_prediction_needs_no_xgboost() -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; sys.modules['xgboost'] = None\n"
        "from metainf.api.choosing import load_predictor\n"
        "from metainf.api.catalogue import hardware_of, model, workload_of\n"
        "from metainf.domain import Method\n"
        "p = load_predictor(); pairs = [(hardware_of(['H100'])[0][0], Method(engine='vllm'))]\n"
        "m, w = model('Llama-3.1-8B-Instruct'), workload_of('sharegpt', {'concurrency': 4})\n"
        "assert p.predict(m, w, pairs)[0].metrics and p.explain(m, w, pairs)[0]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
