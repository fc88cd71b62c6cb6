"""The fitted prior with boosted trees on what it leaves: one core of the serving learner."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed import prior
from metainf.learn import trees
from metainf.learn.conformal import group_offsets
from metainf.learn.views import Floats

ROUNDS = 200
PULL = 6.0
"""Strength with which the efficiencies are held at their a-priori values."""
TTFT_WEIGHT = 0.5
FACTS = {
    "model": ("mem_bw", "peak_bf16", "link_bw", "domain"),
    "hardware": ("layers", "hidden", "experts", "top_k", "active", "routed", "kv16"),
}
"""Plain facts shown to the trees: those of the side that is not the unseen one."""
FEATURES = (
    *("share of memory traffic in a step", "share of compute in a step", "share of communication in a step"),
    *("share of engine overhead in a step", "share of prefill interference", "cache against weight traffic"),
    *("share of experts touched", "requests per device", "requests per engine", "cache overflow"),
    *("input length", "input against output length", "devices per engine", "weight bits", "disaggregation"),
    *("known worker counts", "attention data parallelism", "expert parallelism", "mixture of experts"),
    *("prefill load", "prefill against step time", "waiting", "concurrency", "speculative decoding"),
    *(f"engine {name}" for name in prior.ENGINES),
)
_BOOST = {
    "objective": "reg:pseudohubererror",
    "huber_slope": 0.15,
    "max_depth": 4,
    "eta": 0.06,
    "min_child_weight": 0.0,
    "subsample": 0.7,
    "colsample_bytree": 0.6,
    "lambda": 15.0,
    "nthread": 1,
    "tree_method": "hist",
    "max_bin": 64,
}


class Core:
    """Log efficiencies `theta` and the boosters (bytes) of each target, one for each seed."""

    def __init__(self, theta: Floats, boosters: dict[str, list[bytes]]) -> None:
        self.theta, self.boosters = theta, boosters
        self.trees = {name: [trees.Trees(model) for model in models] for name, models in boosters.items()}

    def correction(self, target: str, features: trees.Matrix) -> Floats:
        """Mean correction of the seeds (log units), before shrinkage."""
        return np.asarray(np.mean([model.predict(features) for model in self.trees[target]], axis=0))


def fit_prior(
    t: dict[str, Floats], engine: NDArray[np.intp], y: dict[str, Floats], weights: Floats
) -> Floats:
    """Efficiencies by robust least squares of log times, pulled to the a-priori values."""
    from scipy.optimize import least_squares

    root = np.sqrt(weights)

    def residual(theta: Floats) -> Floats:
        out = prior.parts(t, engine, theta)
        return np.concatenate(
            [
                root * (np.log(out["tpot"]) - y["tpot"]),
                root * TTFT_WEIGHT * (np.log(out["ttft"]) - y["ttft"]),
                PULL * (theta - prior.THETA) / prior.WIDTH,
            ]
        )

    return np.asarray(least_squares(residual, prior.THETA, loss="soft_l1", f_scale=0.15, max_nfev=25).x)


def inputs(t: dict[str, Floats], p: dict[str, Floats], engine: NDArray[np.intp], unseen: str) -> trees.Matrix:
    """Features (n, d): dimensionless or log loads, and plain facts of the seen side alone."""
    step, total = p["step"], p["tpot"]
    columns = [
        p["memory"] / step,
        p["compute"] / step,
        p["comm"] / step,
        p["fixed"] / step,
        p["inter"] / total,
        np.log(np.maximum(t["t_kv"], 1e-12) / (t["t_dense"] + t["t_moe"])),
        t["touched"],
        np.log(t["b"] / t["w"]),
        np.log(t["b"]),
        np.log(t["over"]),
        np.log(t["isl"]),
        np.log(t["isl"] / t["osl"]),
        np.log(t["w"]),
        t["bits"],
        t["disagg"],
        t["known"],
        t["dpa"],
        t["ep_on"],
        t["moe"],
        np.log(p["load"]),
        np.log(p["prefill"] / step),
        np.log(p["wait"] / p["prefill"]),
        np.log(t["conc"]),
        t["spec"],
    ]
    columns += [(engine == i) * 1.0 for i in range(len(prior.ENGINES))]
    columns += [t[name] for name in FACTS[unseen]]
    return np.stack(columns, axis=1).astype(np.float32)


def fit_core(
    t: dict[str, Floats],
    engine: NDArray[np.intp],
    y: dict[str, Floats],
    weights: Floats,
    groups: NDArray[Any],
    unseen: str,
    seeds: int,
) -> Core:
    """Calibrate the prior, then boost its residual with each group's own median taken out."""
    theta = fit_prior(t, engine, y, weights)
    p = prior.parts(t, engine, theta)
    x, boosters = inputs(t, p, engine, unseen), {}
    for name, values in y.items():
        r = values - np.log(p[name])
        r = r - group_offsets(r, weights, groups)
        options = _BOOST | {"base_score": float(np.median(r))}
        boosters[name] = [trees.train(x, r, options | {"seed": k}, ROUNDS, weights) for k in range(seeds)]
    return Core(theta, boosters)
