"""Calibration of the prior: recovery of known efficiencies, engine by engine."""

import numpy as np

from metainf.domain import Device, Hardware, Lengths, Method, Model, Workload
from metainf.domain.method import Parallelism
from metainf.embed import prior
from metainf.embed.columns import columns
from metainf.embed.physics import terms
from metainf.learn.calibrate import calibrate
from metainf.learn.conformal import best_for_new_group, new_group_share


def test_efficiencies_are_found_again_engine_by_engine() -> None:
    model = Model(
        name="m", params_b=8.0, num_layers=32, hidden_size=4096, num_heads=32, num_kv_heads=8, head_dim=128
    )
    device = Device(name="d", memory_gib=80, bf16_tflops=900)
    rows = [
        (Workload(input_tokens=Lengths(mean=i), output_tokens=Lengths(mean=300), concurrency=n),
         Hardware(device=device.model_copy(update={"memory_bandwidth_gb_per_s": b}), count=w),
         Method(engine=e, techniques=(Parallelism(tensor=w),)))
        for i in (200, 1000, 6000) for n in (1, 4, 32, 128) for w in (1, 2, 4) for b in (2000, 5000)
        for e in (*prior.ENGINES, "other")
    ]  # fmt: skip
    work, place, method = (list(part) for part in zip(*rows, strict=True))
    c = columns([model] * len(rows), work, place, method)
    t, engine = terms(c), prior.engine_index(c)
    truth = prior.THETA.copy()
    moved = {"mem_dense": 0.3, "admit:sglang": 0.9, "admit:vllm": -0.5}
    for name, shift in moved.items():
        truth[prior.NAMES.index(name)] += shift
    out = prior.parts(t, engine, truth)
    y = {name: np.log(out[name]) for name in ("tpot", "ttft")}
    found = calibrate(t, engine, y, np.full(len(rows), 20.0))
    for name, shift in moved.items():
        place_ = prior.NAMES.index(name)
        assert abs(found[place_] - prior.THETA[place_] - shift) < 0.25 * abs(shift)
    still = prior.parts(t, engine, found)
    assert np.median(np.abs(np.log(still["tpot"]) - y["tpot"])) < 0.01


def test_every_group_counts_the_same_when_candidates_are_compared() -> None:
    groups, weights = np.array(["large"] * 90 + ["a"] * 5 + ["b"] * 5), np.ones(100)
    nothing = np.full(100, 0.2)
    for_the_large = np.concatenate([np.full(90, 0.1), np.full(10, 0.3)])
    assert best_for_new_group(np.stack([nothing, for_the_large]), weights, groups) == 0
    assert best_for_new_group(np.stack([nothing, nothing - 0.05]), weights, groups) == 1
    assert new_group_share(0.9, 4) == 0.92
