"""The method chooser on small made-up histories with a planted effect."""

from dataclasses import replace

import numpy as np
import pytest

from metainf.domain import (
    AttentionBackend,
    BadInput,
    Device,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    Parallelism,
    Provenance,
    Record,
    Setting,
    WeightQuantization,
    Workload,
)
from metainf.embed.roofline import features, ideal, tokens
from metainf.learn import trees
from metainf.learn.contrast import RelativeTrees, cell_mean, describe, history
from metainf.learn.process import MethodProcess, Sample
from metainf.learn.relative import UNJUDGED, MethodChooser, deal
from metainf.learn.table import Table, table
from metainf.learn.views import View, budgets, judge, options

DEVICE = Device(name="a", memory_gib=80, memory_bandwidth_gb_per_s=2000, fp16_tflops=300)
BARE = Device(name="unheard-of")
SPEEDS = {"plain": 1.0, "xformers": 1.5, "sdp": 1.3, "slow": 0.7}
STEPS = View("steps_per_s")
BUDGET = View("tokens_per_s_per_device", "e2e_s")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trees: enough for these tables, and quick."""
    monkeypatch.setattr("metainf.learn.contrast.ROUNDS", 40)
    monkeypatch.setattr("metainf.learn.contrast.FOREST", 20)


def picture(number: int, backend: str, noise: float, device: Device = DEVICE) -> Record:
    """A run of image model `number`: its own level, times the planted effect of the attention backend."""
    setting = Setting(
        model=Model(name=f"maker/picture{number}", modality="image", params_b=1.0 + number),
        workload=Workload(batch_size=1, width_px=512, height_px=512, steps=20),
        hardware=Hardware(device=device, count=1),
    )
    method = Method(engine="sd-webui", techniques=(AttentionBackend(name=backend),))
    speed = 20 / (1 + number) * SPEEDS[backend] * np.exp(noise)
    return Record(
        setting=setting,
        method=method,
        outcome=Measured(metrics=Metrics(steps_per_s=speed)),
        provenance=Provenance(source="made-up"),
    )


def pictures(count: int, device: Device = DEVICE) -> Table:
    rng = np.random.default_rng(1)
    return table(
        picture(n, backend, 0.05 * rng.standard_normal(), device) for n in range(count) for backend in SPEEDS
    )


def served(number: int, devices: int, batch: int, weights: str) -> Record:
    """A language run whose time grows with size and batch and falls with devices and fewer bits."""
    size = 5.0 + 3 * number
    step = size / devices**0.8 * (0.6 if weights == "fp8" else 1.0) * (1 + batch / 64) / 1000
    setting = Setting(
        model=Model(name=f"maker/words{number}", modality="text", params_b=size),
        workload=Workload(batch_size=batch, input_tokens=Lengths(mean=128), output_tokens=Lengths(mean=100)),
        hardware=Hardware(device=DEVICE, count=devices),
    )
    techniques = [Parallelism(tensor=devices)]
    quantized = [WeightQuantization(format="fp8")] if weights == "fp8" else []
    return Record(
        setting=setting,
        method=Method(engine="vllm", techniques=(*techniques, *quantized)),
        outcome=Measured(metrics=Metrics(output_tokens_per_s=batch / step, e2e_s=100 * step)),
        provenance=Provenance(source="made-up"),
    )


def words(count: int) -> Table:
    return table(
        served(n, devices, batch, weights)
        for n in range(count)
        for devices in (1, 2, 4)
        for batch in (1, 16, 64)
        for weights in ("", "fp8")
    )


def split(full: Table, model: str) -> tuple[Table, Table]:
    held = full.keys["model"] == model
    return full.take(~held), full.take(held)


def test_planted_effect_is_found_on_an_unseen_model() -> None:
    train, test = split(pictures(8), "picture5")
    chooser = MethodChooser()
    chooser.fit(train, STEPS)
    found = options(test, STEPS)
    scores = chooser.score(test, found, told=True)
    backend = test.columns["attention_backend"][found.rows]
    order = backend[np.argsort(-scores[:, 0])].tolist()
    assert order == ["xformers", "sdp", "plain", "slow"]
    gap = scores[backend == "xformers", 0] - scores[backend == "slow", 0]
    assert scores.max() == 0.0
    assert gap[0] == pytest.approx(np.log(1.5 / 0.7), abs=0.25)


def test_same_rows_give_the_same_scores_in_any_process_order() -> None:
    train, test = split(pictures(6), "picture2")
    found = options(test, STEPS)
    scores = []
    for _ in range(2):
        chooser = MethodChooser()
        chooser.fit(train, STEPS)
        scores.append(chooser.score(test, found, told=True))
    np.testing.assert_array_equal(scores[0], scores[1])


def test_trees_and_forest_together_are_weighed_only_where_no_ideal_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("metainf.learn.relative.WITHOUT_IDEAL", ((1e12, {"trees": 0.5, "forest": 0.5}),))
    drawn, written = MethodChooser(), MethodChooser()
    drawn.fit(pictures(4), STEPS)
    written.fit(words(4), View("tokens_per_s_per_device"))
    weights = drawn.weights(True)
    assert (weights["trees"], weights["forest"]) == pytest.approx((0.5, 0.5))
    assert written.weights(True)["process"] > 0.01


def test_one_training_cell_is_enough() -> None:
    full = pictures(2)
    train, test = split(full, "picture1")
    found = options(test, STEPS)
    chooser = MethodChooser()
    chooser.fit(train, STEPS)
    scores = chooser.score(test, found, told=True)
    assert np.isfinite(scores).all()
    assert test.columns["attention_backend"][found.rows][np.argmax(scores)] == "xformers"


def test_one_training_cell_under_a_budget_has_an_error_scale() -> None:
    train, test = split(words(2), "words1")
    chooser = MethodChooser()
    chooser.fit(train, BUDGET)
    found = options(test, BUDGET)
    assert np.isfinite(chooser.score(test, found, told=False)).all()
    assert chooser.weights(False) == UNJUDGED
    assert min(chooser.scale.values()) > 0


def test_untold_scores_prefer_what_meets_the_budget() -> None:
    train, test = split(words(7), "words3")
    chooser = MethodChooser()
    chooser.fit(train, BUDGET)
    found, allowed = options(test, BUDGET), budgets(options(test, BUDGET), BUDGET)
    untold = chooser.score(test, found, False)
    assert untold.shape == allowed.shape == (18, 3)
    blind = judge(found, allowed, np.repeat(found.value[:, None], 3, axis=1), False)
    aware = judge(found, allowed, untold, False)
    assert aware.regret.mean() < blind.regret.mean(), "who knows every value but no budget does worse"
    assert aware.regret.mean() < 0.25


def test_held_out_rows_do_not_touch_weights_or_error_scales() -> None:
    train, test = split(words(6), "words4")
    chooser, other = MethodChooser(), MethodChooser()
    chooser.fit(train, BUDGET)
    other.fit(train, BUDGET)
    found = options(test, BUDGET)
    before = chooser.score(test, found, told=False), chooser.scale, chooser.weights(False)
    test.metrics["output_tokens_per_s"][:] = np.linspace(1, 2, len(test))
    test.metrics["e2e_s"] *= 50
    after = other.score(test, found, told=False), other.scale, other.weights(False)
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert set(before[1]) == {"process", "trees", "forest"}


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(BadInput, match="speed"):
        MethodChooser().fit(pictures(2), View("speed"))


def test_unknown_device_and_sizes_still_give_finite_ideals() -> None:
    full = pictures(2, BARE)
    matrix, names = features(full.columns)
    assert len(set(names)) == len(names) == matrix.shape[1]
    assert np.isnan(matrix[:, names.index("bandwidth")]).all()
    for kind in ("none", "step", "run", "speed", "rate_per_device", "energy"):
        assert np.isfinite(ideal(matrix, names, kind)).all()


def test_ideal_time_grows_with_load_and_falls_with_devices() -> None:
    full = words(1)
    matrix, names = features(full.columns)
    step = ideal(matrix, names, "step")
    devices, batch, bits = (full.columns[k] for k in ("num_devices", "batch_size", "weight_bits"))
    plain = ~(bits < 16)
    for d in (1, 2, 4):
        assert (np.diff(step[plain & (devices == d)]) > 0).all()
    for b in (1, 16, 64):
        assert (np.diff(step[plain & (batch == b)]) < 0).all()


def test_methods_become_words() -> None:
    full = words(1)
    found = tokens(full.columns, full.keys["method"])
    quantized = [some for some in found if "weight_format=fp8" in some]
    assert len(quantized) == 9
    assert all("bits=8" in some and "engine=vllm" in some for some in quantized)
    assert all(
        ("tensor=4" in some) == (n == 4) for some, n in zip(found, full.columns["num_devices"], strict=True)
    )


def test_trees_without_level_ignore_a_shift_of_whole_cells() -> None:
    full = pictures(6)
    runs, cell = describe(full, STEPS), np.repeat(np.arange(6), 4)
    target = np.log(full.metrics["steps_per_s"])
    shift = np.repeat(np.arange(6) * 10.0, 4)
    one = np.ones(len(full))
    first = RelativeTrees(0.0).fit(runs, target, cell, one).predict(runs)
    second = RelativeTrees(0.0).fit(runs, target + shift, cell, one).predict(runs)
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert np.ptp(cell_mean(target, cell, one)[:4]) == 0


def test_process_thins_whole_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metainf.learn.process.MOST_ROWS", 8)
    full = pictures(6)
    cell = np.repeat(np.arange(6), 4)
    process = MethodProcess().fit(describe(full, STEPS), np.zeros(24), cell, np.full(24, 0.1))
    assert len(process.runs) == 8
    assert len(set(process.runs.labels["model"].tolist())) == 2
    np.testing.assert_allclose(process.predict(describe(full, STEPS)), 0.0)


def test_taken_samples_number_their_cells_anew() -> None:
    sample = Sample(np.arange(4.0), np.ones(4), np.full(4, np.nan), np.array([0, 3, 3, 7]))
    assert sample.take(np.array([1, 2, 3])).cell.tolist() == [0, 0, 1]


def test_groups_are_dealt_whole_and_evenly() -> None:
    labels = np.array(["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"])
    fold = deal(labels, 2)
    assert all(len(set(fold[labels == name].tolist())) == 1 for name in "abcd")
    assert np.bincount(fold).tolist() == [6, 5]


def test_weights_go_to_what_holds_on_groups_never_seen() -> None:
    plain = MethodChooser()
    plain.fit(pictures(12), STEPS)
    turned = pictures(12)
    turned.metrics["steps_per_s"][turned.columns["params_b"] > 6.5] **= -1
    other = MethodChooser()
    other.fit(turned, STEPS)
    assert sum(plain.weights(True).values()) == pytest.approx(1.0)
    assert sum(other.weights(True).values()) == pytest.approx(1.0)
    assert other.weights(True)["single best"] < plain.weights(True)["single best"]


def test_best_method_that_turns_with_size_is_followed() -> None:
    full = pictures(16)
    full.metrics["steps_per_s"][full.columns["params_b"] > 8] **= -1
    for model, wanted in (("picture2", "xformers"), ("picture13", "slow")):
        train, test = split(full, model)
        chooser = MethodChooser()
        chooser.fit(train, STEPS)
        found = options(test, STEPS)
        pick = int(np.argmax(chooser.score(test, found, True)))
        assert test.columns["attention_backend"][found.rows][pick] == wanted


def test_budget_is_known_by_its_place_among_the_limits_of_the_cell() -> None:
    train, test = split(words(7), "words3")
    chooser = MethodChooser()
    chooser.fit(train, BUDGET)
    found = options(test, BUDGET)
    before = chooser.score(test, found, told=False)
    slower = found.limit * 7
    after = chooser.score(test, replace(found, limit=slower), told=False)
    np.testing.assert_array_equal(before, after)
    assert len(set(np.argmax(before, axis=0).tolist())) > 1


def test_either_identity_of_options_serves() -> None:
    for identity in ("family", "method"):
        view = View("steps_per_s", options=identity)  # type: ignore[arg-type]
        train, test = split(pictures(6), "picture3")
        chooser = MethodChooser()
        chooser.fit(train, view)
        found = options(test, view)
        best = int(np.argmax(chooser.score(test, found, True)))
        assert test.columns["attention_backend"][found.rows][best] == "xformers"


def test_history_merges_repeats_and_remembers_their_spread() -> None:
    full = pictures(3)
    twice = full.take(np.concatenate([np.arange(12), np.arange(12), [0]]))
    twice.metrics["steps_per_s"][:12] *= np.e
    past = history(twice, STEPS)
    assert len(past.runs) == 12
    assert past.place[0] == past.place[12] == past.place[24]
    assert past.value.count[past.place[0]] == 3
    assert past.value.log[past.place[1]] == pytest.approx(np.log(full.metrics["steps_per_s"][1]) + 0.5)
    assert past.value.spread[past.place[1]] == pytest.approx(np.sqrt(0.5))


def test_trees_follow_the_loss_they_are_given() -> None:
    features = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    wanted = np.repeat([1.0, -3.0], 10)

    def loss(reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return reached - wanted, np.ones(20)

    model = trees.train(features, np.zeros(20), {"eta": 0.5, "base_score": 0.0}, 30, loss=loss)
    np.testing.assert_allclose(trees.Trees(model).predict(features), wanted, atol=0.05)


def under_load(engine: str, weights: str, batch: int, tokens: tuple[int, int], count: int) -> Record:
    """One run of a 14B model at a load that fills the engine; what it measured does not matter."""
    device = Device(name="h", memory_gib=80, memory_bandwidth_gb_per_s=3350, bf16_tflops=989, fp8_tflops=1979)
    model = Model(
        name="maker/fourteen", modality="text", params_b=14.8, num_layers=40, hidden_size=5120,
        num_heads=40, num_kv_heads=8, head_dim=128,
    )  # fmt: skip
    setting = Setting(
        model=model,
        workload=Workload(
            batch_size=batch, input_tokens=Lengths(mean=tokens[0]), output_tokens=Lengths(mean=tokens[1])
        ),
        hardware=Hardware(device=device, count=count),
    )
    quantized = [WeightQuantization(format=weights)] if weights else []
    return Record(
        setting=setting,
        method=Method(engine=engine, techniques=(Parallelism(tensor=count), *quantized)),
        outcome=Measured(metrics=Metrics(tpot_s=0.1)),
        provenance=Provenance(source="made-up"),
    )


def served_s(*runs: Record) -> dict[str, np.ndarray]:
    matrix, names = features(table(runs).columns)
    return {name: np.exp(matrix[:, names.index(name)]) for name in ("t_served", "admitted")}


def test_a_step_never_prefills_more_than_its_tokens() -> None:
    short = served_s(*(under_load("sglang", "", batch, (128, 4), 1) for batch in (64, 256, 1000)))
    assert short["admitted"].tolist() == pytest.approx([64, 256, 1000])
    assert short["t_served"][1] == pytest.approx(short["t_served"][2], rel=0.01)
    assert short["t_served"][0] < 0.5 * short["t_served"][1]


def test_memory_limits_what_runs_at_once_and_smaller_weights_leave_room() -> None:
    full, half = (served_s(under_load("vllm", w, 1000, (4000, 200), 1)) for w in ("", "fp8"))
    assert 1 < full["admitted"][0] < half["admitted"][0] < 1000
    wide = served_s(under_load("vllm", "", 1000, (4000, 200), 4))
    assert wide["admitted"][0] > 4 * full["admitted"][0]


def test_weights_that_are_only_stored_small_are_slower_under_load_and_faster_alone() -> None:
    for batch, faster in ((1, True), (256, False)):
        found = served_s(*(under_load("vllm", w, batch, (200, 200), 1) for w in ("awq", "")))
        assert (found["t_served"][0] < found["t_served"][1]) == faster


def test_folds_of_another_kind_count_for_half() -> None:
    full = pictures(8)
    wanted, other = MethodChooser(), MethodChooser("device")
    wanted.fit(full, STEPS)
    other.fit(full, STEPS)
    for name, share in other.weights(True).items():
        assert share == pytest.approx((wanted.weights(True)[name] + UNJUDGED.get(name, 0.0)) / 2)
