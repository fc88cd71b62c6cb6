"""What related runs left of the prior: a Gaussian process for each engine over load, shape and layout.

The covariance of two runs of one engine is a sum: runs of the same model (a level, and a shape over the
coordinates), of the same build of the engine (a level, and a shape where the model is the same too), and
of models of the same kind (a shape). Nothing is said of engines, or pools of an engine, never seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.embed.columns import Columns
from metainf.embed.layout import num, text
from metainf.embed.remembering import coded, of_columns
from metainf.learn.views import Floats

REASONS = ("runs of this model", "runs of this engine build", "runs of like models")
"""The parts of a correction, in order."""
MOST = 600
"""Points kept of each engine; more would cost time for little."""
FEWEST = 10
CUT = 1.0
"""Log residuals beyond this are broken runs rather than knowledge."""
Singles = NDArray[np.float32]
_KINDS = ("dense", "experts", "dense|latent", "experts|latent")
_MODEL_LEVEL, _MODEL_SHAPE = 0.03, 0.03
_BUILD_LEVEL, _BUILD_SHAPE = 0.01, 0.02
_KIND_SHAPE = 0.01
_NOISE = {"tpot": 0.02, "ttft": 0.025}
"""Variances in log units: a priori, not tuned per source."""


@dataclass(frozen=True)
class Relations:
    """Where n runs stand: `pool` (engine, pools apart), coordinates (n, d), and labels (n, 3), which are
    places in `names`: models, builds and kinds."""

    pool: NDArray[Any]
    labels: NDArray[np.intp]
    points: Floats
    names: tuple[list[str], ...]

    def take(self, rows: NDArray[Any]) -> "Relations":
        """The runs of an index or mask."""
        return Relations(self.pool[rows], self.labels[rows], self.points[rows], self.names)


def relations(columns: Columns, t: dict[str, Floats]) -> Relations:
    """Relations of the rows of a table, given their terms. Coordinates are in units of a length scale."""
    pool, group, build, (groups, builds) = _relatives(columns)
    latent = num(columns, "kv_lora_rank", 0.0) > 0
    kind = (t["moe"] > 0) * 1 + latent * 2
    log2 = {name: np.log2(t[name]) for name in ("conc", "isl", "osl", "w", "nd", "np")}
    per_device = np.log2(np.maximum(t["b"] / t["w"], 0.01))
    points = [
        *(log2["conc"] / 3, log2["isl"] / 2, log2["osl"] / 2, log2["w"], log2["nd"] / 2, log2["np"] / 2),
        *(t["bits"] / 4, t["dpa"], t["ep_on"], per_device / 3, np.minimum(t["draft"], 3) / 1.5),
        t["untold"] / 2,
    ]
    return Relations(
        pool,
        np.stack([group, build, kind.astype(np.intp)], axis=1),
        np.round(np.stack(points, axis=1), 3),
        (groups, builds, list(_KINDS)),
    )


@of_columns("engine", "engine_version", "model", "disaggregated")
def _relatives(
    c: Columns,
) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp], tuple[list[str], list[str]]]:
    """Pool of each row, its model and build of the engine as places in names, and these."""
    engine, version = (text(c, name).astype(np.str_) for name in ("engine", "engine_version"))
    models, model = coded(text(c, "model"))
    groups, group = coded(np.array([catalog.model_group(name) for name in models], dtype=np.str_))
    builds, build = coded(np.char.add(np.char.add(engine, "|"), version))
    pool = np.char.add(engine, np.where(num(c, "disaggregated", 0.0) > 0, "|pools", ""))
    return pool, group[model], build, (groups, builds)


class Kin:
    """Corrections of log times from related runs."""

    def __init__(self, pools: dict[str, dict[str, Any]]) -> None:
        """pools: by name, points (m, d), labels (m, 3) and weights (m,) of each target, as lists."""
        self.pools = pools
        self._ready = {name: _Pool(pool) for name, pool in pools.items()}

    @staticmethod
    def fit(where: Relations, left: dict[str, Floats], weights: Floats) -> "Kin":
        """left: log residuals of the prior by target. Runs in one place count once, with their mean."""
        pools = {}
        for name in np.unique(where.pool):
            rows = np.flatnonzero(where.pool == name)
            here = where.take(rows)
            keys = np.concatenate([here.labels, here.points], axis=1)
            _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
            if len(first) < FEWEST:
                continue
            kept = np.unique(np.linspace(0, len(first) - 1, min(len(first), MOST)).astype(int))
            part, count = here.take(first[kept]), np.bincount(place.ravel(), weights=weights[rows])
            spread = np.sum(_kernels(part, part), axis=0, dtype=np.float64)
            pool: dict[str, Any] = {"points": part.points.tolist(), "labels": _spelt(part)}
            for target, values in left.items():
                cut = np.clip(values[rows], -CUT, CUT) * weights[rows]
                mean = (np.bincount(place.ravel(), weights=cut) / count)[kept]
                solved = np.linalg.solve(spread + _NOISE[target] * np.eye(len(kept)), mean)
                pool[target] = np.round(solved, 6).tolist()
            pools[str(name)] = pool
        return Kin(pools)

    def corrections(self, where: Relations, targets: tuple[str, ...]) -> dict[str, Floats]:
        """Log corrections of each target, (n, 3): their parts as in REASONS."""
        found = {target: np.zeros((len(where.pool), len(REASONS))) for target in targets}
        names, pools = coded(where.pool)
        for number, name in enumerate(names):
            pool = self._ready.get(name)
            if pool is None:
                continue
            rows = np.flatnonzero(pools == number)
            first, place = _distinct(where, rows)
            asked = where.take(first)
            kept = _related(asked, pool.where)
            parts = _kernels(asked, pool.where.take(kept))
            for target in targets:
                said = np.stack([part @ pool.weights[target][kept] for part in parts], axis=1)
                found[target][rows] = said[place]
        return found

    def sizes(self, target: str) -> Floats:
        """Mean absolute log correction of the kept points by each of REASONS."""
        found = np.zeros(len(REASONS))
        for pool in self._ready.values():
            parts = _kernels(pool.where, pool.where)
            found += [float(np.abs(part @ pool.weights[target]).sum()) for part in parts]
        return found / max(sum(len(pool.where.points) for pool in self._ready.values()), 1)


class _Pool:
    """One engine's points as arrays."""

    def __init__(self, pool: dict[str, Any]) -> None:
        points = np.array(pool["points"], dtype=np.float64)
        sides = [coded(np.array(column, dtype=np.str_)) for column in zip(*pool["labels"], strict=True)]
        labels = np.stack([codes for _, codes in sides], axis=1)
        self.where = Relations(np.zeros(len(points)), labels, points, tuple(names for names, _ in sides))
        self.weights = {target: np.array(pool[target], dtype=np.float32) for target in _NOISE}


def _spelt(where: Relations) -> list[list[str]]:
    """The labels of each run as texts."""
    return [
        [names[code] for names, code in zip(where.names, row, strict=True)] for row in where.labels.tolist()
    ]


def _distinct(where: Relations, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first of the rows at each place, and the place of each row."""
    keys = np.ascontiguousarray(np.concatenate([where.labels[rows], where.points[rows]], axis=1))
    found = keys.view(np.dtype((np.void, keys.dtype.itemsize * keys.shape[1]))).ravel().tolist()
    first: dict[bytes | tuple[Any, ...], int] = {}
    for row, key in enumerate(found):
        first.setdefault(key, row)
    order = {key: place for place, key in enumerate(sorted(first))}
    return rows[[first[key] for key in order]], np.array([order[key] for key in found], dtype=np.intp)


def _related(asked: Relations, known: Relations) -> NDArray[np.intp]:
    """Runs that share the model, the build or the kind with one asked about; the others say nothing."""
    kept = np.zeros(len(known.points), dtype=np.bool_)
    for side in range(len(REASONS)):
        names = {asked.names[side][code] for code in set(asked.labels[:, side].tolist())}
        shared = np.array([name in names for name in known.names[side]], dtype=np.bool_)
        kept |= shared[known.labels[:, side]]
    return np.flatnonzero(kept)


def _kernels(a: Relations, b: Relations) -> list[Singles]:
    """Covariances (n, m) of two sets of runs of one engine, apart by REASONS; in single precision."""
    left, right = a.points.astype(np.float32), b.points.astype(np.float32)
    near: Singles = left @ right.T
    near -= 0.5 * (left**2).sum(axis=1)[:, None]
    near -= 0.5 * (right**2).sum(axis=1)[None, :]
    np.exp(np.minimum(near, 0.0, out=near), out=near)
    model, build, kind = (_same(a, b, side) for side in range(3))
    of_model: Singles = _MODEL_SHAPE * near
    of_build: Singles = _BUILD_SHAPE * near
    of_model += _MODEL_LEVEL
    of_build *= model
    of_build += _BUILD_LEVEL
    near *= _KIND_SHAPE
    for part, same in ((of_model, model), (of_build, build), (near, kind)):
        part *= same
    return [of_model, of_build, near]


def _same(a: Relations, b: Relations, side: int) -> Singles:
    """1 where one label of two runs has the same name, else 0; one row where all of `a` have one name."""
    place = {name: place for place, name in enumerate(b.names[side])}
    mine = np.array([place.get(name, -1) for name in a.names[side]], dtype=np.intp)[a.labels[:, side]]
    names, row = np.unique(mine, return_inverse=True)
    same = (names[:, None] == b.labels[:, side]).astype(np.float32)
    return np.asarray(same if len(names) == 1 else same[row.ravel()])
