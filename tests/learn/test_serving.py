"""The serving learner on a world made of its own physics: recovery, round trip, failures, reasons."""

import json
from functools import cache

import numpy as np
import pytest

from metainf.domain import ArtifactError, BadInput, Device, Hardware, Lengths, Method, Model, Workload
from metainf.domain.method import KvQuantization, Parallelism, WeightQuantization
from metainf.embed import prior
from metainf.embed.columns import columns
from metainf.embed.physics import terms
from metainf.learn.conformal import new_group_factor, row_weights, weighted_quantile
from metainf.learn.serving import ServingLearner
from metainf.learn.table import METRICS, Table

NOISE = 0.05
FAST = {"pf_flop": 0.4, "mem_dense": 0.3, "step:vllm": 0.5}
SIZES = {"a": (3.0, 28, 3072), "b": (8.0, 32, 4096), "c": (14.0, 40, 5120), "d": (32.0, 64, 5120)}


def model(name: str) -> Model:
    params, layers, hidden = SIZES.get(name, (70.0, 80, 8192))
    return Model(
        name=name, params_b=params, active_params_b=params, num_layers=layers, hidden_size=hidden,
        num_heads=hidden // 128, num_kv_heads=8, head_dim=128, vocab_size=128000,
    )  # fmt: skip


def device(name: str) -> Device:
    scale = {"small": 1.0, "large": 2.5}.get(name, 1.6)
    return Device(
        name=name, memory_gib=80 * scale, memory_bandwidth_gb_per_s=3000 * scale, bf16_tflops=900 * scale,
        fp8_tflops=1800 * scale, scaleup_gb_per_s=450, typical_per_node=8,
    )  # fmt: skip


def world(models: str, devices: tuple[str, ...] = ("small", "large"), broken: str = "") -> Table:
    """Runs timed by the prior with other efficiencies, times exp(noise); `broken` cache formats fail."""
    rows = [
        (model(m), Workload(input_tokens=Lengths(mean=i), output_tokens=Lengths(mean=200), concurrency=n),
         Hardware(device=device(d), count=w), method(engine, w, bits, kv))
        for m in models for d in devices for i in (500, 4000) for n in (1, 16, 128)
        for w, engine, bits, kv in ((2, "vllm", 16, ""), (4, "vllm", 8, "fp8"), (2, "sglang", 8, ""))
    ]  # fmt: skip
    c = columns(*(list(part) for part in zip(*rows, strict=True)))  # type: ignore[arg-type]
    theta = prior.THETA.copy()
    for name, shift in FAST.items():
        theta[prior.NAMES.index(name)] += shift
    out = prior.parts(terms(c), prior.engine_index(c), theta)
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(0, NOISE, (2, len(rows))))
    ok = c["kv_format"] != broken if broken else np.ones(len(rows), dtype=bool)
    metrics = {name: np.full(len(rows), np.nan) for name in METRICS}
    metrics["tpot_s"], metrics["ttft_s"] = (
        np.where(ok, out[n] * noise[i], np.nan) for i, n in enumerate(("tpot", "ttft"))
    )
    return Table(c, metrics, ok, {"model_group": c["model"], "device": c["device"]})


def method(engine: str, tensor: int, bits: float, kv: str) -> Method:
    techniques = [Parallelism(tensor=tensor)]
    techniques += [WeightQuantization(format="fp8", bits=8, activation_bits=8)] if bits == 8 else []
    techniques += [KvQuantization(format=kv)] if kv else []
    return Method(engine=engine, techniques=tuple(techniques))


@cache
def learner() -> ServingLearner:
    return ServingLearner().fit(world("abc"))


def test_an_unseen_model_is_forecast_within_the_noise() -> None:
    test = world("d")
    found = learner().forecast(test.columns)
    untaught = prior.parts(terms(test.columns), prior.engine_index(test.columns))
    for name in ("tpot_s", "ttft_s"):
        error = np.abs(found.log_median[name] - np.log(test.metrics[name]))
        before = np.abs(np.log(untaught[name[:4]]) - np.log(test.metrics[name]))
        assert np.median(error) < 0.1
        assert np.median(error) < 0.6 * np.median(before)
        _, low, high = found.bounds(name)
        assert np.mean((test.metrics[name] >= low) & (test.metrics[name] <= high)) > 0.75


def test_an_unseen_device_is_forecast_within_the_noise() -> None:
    found = ServingLearner("hardware").fit(world("abc")).forecast(world("b", ("other",)).columns)
    truth = world("b", ("other",)).metrics["tpot_s"]
    assert np.median(np.abs(found.log_median["tpot_s"] - np.log(truth))) < 0.12


def test_rates_follow_littles_law() -> None:
    c = world("d").columns
    found = learner().forecast(c)
    e2e = np.exp(found.log_median["ttft_s"]) + 199 * np.exp(found.log_median["tpot_s"])
    assert np.exp(found.log_median["e2e_s"]) == pytest.approx(e2e)
    assert np.exp(found.log_median["requests_per_s"]) == pytest.approx(c["concurrency"] / e2e)
    assert np.exp(found.log_median["output_tokens_per_s"]) == pytest.approx(200 * c["concurrency"] / e2e)
    assert all((scale > 0).all() and np.isfinite(scale).all() for scale in found.log_scale.values())


def test_dump_and_load_forecast_bit_identically() -> None:
    state, boosters = learner().dump()
    again = ServingLearner.load(json.loads(json.dumps(state)), boosters)
    c = world("d").columns
    one, two = learner().forecast(c), again.forecast(c)
    for name in one.log_median:
        assert np.array_equal(one.log_median[name], two.log_median[name])
        assert np.array_equal(one.log_scale[name], two.log_scale[name])
    assert np.array_equal(one.p_ok, two.p_ok)
    assert again.explain(c) == learner().explain(c)
    boosters.pop("spread-tpot")
    with pytest.raises(ArtifactError, match="spread-tpot"):
        ServingLearner.load(state, boosters)


def test_fit_is_deterministic() -> None:
    again = ServingLearner().fit(world("abc")).dump()
    assert again == learner().dump()


def place(name: str, tensor: int, count: int) -> float:
    work = Workload(input_tokens=Lengths(mean=500), output_tokens=Lengths(mean=200), concurrency=1)
    hardware = Hardware(device=device("small"), count=count)
    c = columns([model(name)], [work], [hardware], [method("vllm", tensor, 16, "")])
    return float(learner().forecast(c).p_ok[0])


def test_a_model_that_cannot_fit_will_not_work() -> None:
    """70e9 parameters at 16 bits are 130 GiB: not on one card of 80 GiB, easily on four."""
    assert 0 < place("huge", 1, 1) <= 0.02
    assert place("huge", 4, 4) > 0.95
    assert place("b", 1, 1) > 0.95


def test_what_always_failed_is_expected_to_fail() -> None:
    taught = ServingLearner().fit(world("abc", broken="fp8"))
    test = world("d")
    p = taught.forecast(test.columns).p_ok
    bad = test.columns["kv_format"] == "fp8"
    assert p[bad].max() < 0.1
    assert p[~bad].min() > 0.6
    state, boosters = taught.dump()
    again = ServingLearner.load(json.loads(json.dumps(state)), boosters)
    assert np.array_equal(again.forecast(test.columns).p_ok, p)


def test_explanations_name_what_dominates() -> None:
    c = world("d").columns
    told = learner().explain(c)
    assert len(told) == len(c["model"])
    for reasons in told:
        sizes = [abs(amount) for _, amount in reasons]
        assert len(reasons) == 5 and sizes == sorted(sizes, reverse=True)
    alone = told[int(np.flatnonzero((c["concurrency"] == 1) & (c["input_tokens"] == 500))[0])]
    assert alone[0][0] == "reading weights"


def test_importance_tells_causes_and_related_runs() -> None:
    rows = ServingLearner("hardware").fit(world("abc")).importance()
    for target in {target for target, _, _ in rows}:
        parts = [share for name, _, share in rows if name == target]
        assert sum(parts) == pytest.approx(1) and parts == sorted(parts, reverse=True)
    assert ("time of a request", "reading weights") in {(target, cause) for target, cause, _ in rows}


def test_the_work_that_the_learner_was_not_made_for_is_refused_clearly() -> None:
    with pytest.raises(BadInput, match="two or more models"):
        ServingLearner().fit(world("a"))
    with pytest.raises(BadInput, match="fit or load"):
        ServingLearner().forecast(world("a").columns)
    with pytest.raises(BadInput, match="'engine'"):
        ServingLearner("engine")  # type: ignore[arg-type]


def test_unknown_load_device_and_engine_still_get_a_forecast() -> None:
    c = columns([Model(name="?")], [Workload()], [Hardware(device=Device(name="?"))], [Method(engine="?")])
    found = learner().forecast(c)
    assert all(np.isfinite(values).all() for values in found.log_median.values())
    assert found.p_ok[0] > 0.9


def test_conformal_pieces() -> None:
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 8.0]), 0.5) == 2.0
    groups = np.array(["x"] * 50 + ["y"] * 50)
    together = np.tile([-0.1, 0.1], 50)
    apart = np.repeat([-0.5, 0.5], 50) + together / 10
    assert new_group_factor(apart, groups, 0.9) > 3 > 1.1 > new_group_factor(together, groups, 0.9) >= 1
    weights = row_weights(np.array(["x", "x", "y"]), np.array([[1.0], [1.0], [2.0]]))
    assert weights[0] == weights[1] == pytest.approx(weights[2] / 2)
