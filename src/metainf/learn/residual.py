"""The calibrated prior with what related runs leave of it: one core of the serving learner."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed import prior
from metainf.embed.columns import Columns
from metainf.learn import trees
from metainf.learn.calibrate import calibrate
from metainf.learn.kin import Kin, Relations, relations
from metainf.learn.views import Floats

FACTS = {
    "model": ("mem_bw", "peak_bf16", "link_bw", "domain"),
    "hardware": ("layers", "hidden", "experts", "top_k", "active", "routed", "kv16"),
}
"""Plain facts that the size of the error may depend on: those of the side that is not the unseen one."""


class Runs:
    """What the core needs of a table's rows: terms, number of the engine, relations."""

    def __init__(self, t: dict[str, Floats], engine: NDArray[np.intp], where: Relations) -> None:
        self.t, self.engine, self.where = t, engine, where

    @classmethod
    def of(cls, columns: Columns, t: dict[str, Floats]) -> "Runs":
        """The rows of a table and their terms (`physics.terms`)."""
        return cls(t, prior.engine_index(columns), relations(columns, t))

    def take(self, rows: NDArray[Any]) -> "Runs":
        """The rows of an index or mask."""
        return Runs({k: v[rows] for k, v in self.t.items()}, self.engine[rows], self.where.take(rows))


class Core:
    """Log efficiencies `theta` and the process of what they leave."""

    def __init__(self, theta: Floats, kin: Kin) -> None:
        self.theta, self.kin = theta, kin

    def parts(self, runs: Runs) -> dict[str, Floats]:
        """Calibrated parts of the prior (seconds)."""
        return prior.parts(runs.t, runs.engine, self.theta)

    def corrections(self, runs: Runs, targets: tuple[str, ...]) -> dict[str, Floats]:
        """Log corrections of each target before shrinkage, (n, 3): their parts as in `kin.REASONS`."""
        return self.kin.corrections(runs.where, targets)


def fit_core(runs: Runs, y: dict[str, Floats], weights: Floats) -> Core:
    """Calibrate the prior, then learn what it leaves. y: log seconds by target."""
    theta = calibrate(runs.t, runs.engine, y, weights)
    p = prior.parts(runs.t, runs.engine, theta)
    return Core(theta, Kin.fit(runs.where, {n: y[n] - np.log(p[n]) for n in y}, weights))


def inputs(t: dict[str, Floats], p: dict[str, Floats], engine: NDArray[np.intp], unseen: str) -> trees.Matrix:
    """Features (n, d) of the error's size: dimensionless or log loads, plain facts of the seen side alone."""
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
        t["draft"],
        t["untold"],
    ]
    columns += [(engine == i) * 1.0 for i in range(len(prior.ENGINES))]
    columns += [t[name] for name in FACTS[unseen]]
    return np.array(columns, dtype=np.float32).T
