"""Boosted trees as flat arrays: what a trained model file holds, and how it is made from XGBoost's JSON.

Leaves of a tree are numbered from left to right. A split is kept as two bit sets over those numbers: the
leaves on its left and on its right. Everything that evaluation and explanation need follows from them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import ArtifactError, BadInput

_MAGIC = b"MTREES1\n"
WIDTHS = {16: "<u2", 32: "<u4", 64: "<u8"}
"""Most leaves of a tree, and the type of a set of them."""
_IDENTITY = frozenset({"reg:squarederror", "reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror"})
Node = tuple[int, int, float, bool, int, int, float, float]


@dataclass(frozen=True)
class Flat:
    """Splits (one entry each) and leaves (trees, width) of an ensemble; `base` is added to every sum.

    A row goes left where its feature is below `threshold`, or is NaN and `default_left`. `share` is the
    part of the training weight that went left, `gain` the loss that the split saved.
    """

    features: int
    base: float
    tree: NDArray[np.uint16]
    feature: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    default_left: NDArray[np.bool_]
    left: NDArray[Any]
    right: NDArray[Any]
    share: NDArray[np.float32]
    gain: NDArray[np.float32]
    leaf: NDArray[np.float32]

    @property
    def width(self) -> int:
        """Room for leaves in each tree."""
        return int(self.leaf.shape[1])

    def dump(self) -> bytes:
        """The model's bytes: counts, base, then the arrays in little-endian order."""
        head = np.array([self.features, len(self.tree), *self.leaf.shape], dtype="<u4").tobytes()
        parts = [getattr(self, name).astype(kind).tobytes() for name, kind in _layout(self.width)]
        return b"".join([_MAGIC, head, np.array(self.base, dtype="<f8").tobytes(), *parts])


def _layout(width: int) -> tuple[tuple[str, str], ...]:
    sets = WIDTHS[width]
    return (
        ("tree", "<u2"), ("feature", "<u2"), ("threshold", "<f4"), ("default_left", "?"), ("left", sets),
        ("right", sets), ("share", "<f4"), ("gain", "<f4"), ("leaf", "<f4"),
    )  # fmt: skip


def load(data: bytes) -> Flat:
    """Read a model. Raises ArtifactError where the bytes are not one."""
    try:
        if data[: len(_MAGIC)] != _MAGIC:
            raise ValueError("another kind of file")
        place = len(_MAGIC) + 24
        features, splits, trees, width = np.frombuffer(data, "<u4", 4, len(_MAGIC)).tolist()
        base = float(np.frombuffer(data, "<f8", 1, len(_MAGIC) + 16)[0])
        found: dict[str, NDArray[Any]] = {}
        for name, kind in _layout(width):
            size = trees * width if name == "leaf" else splits
            found[name] = np.frombuffer(data, kind, size, place)
            place += found[name].nbytes
        if place != len(data) or not trees:
            raise ValueError("parts of another length")
        whole = (found["tree"] < trees).all() and (found["feature"] < features).all()
        if not whole or not (np.isfinite(found["threshold"]).all() and np.isfinite(found["leaf"]).all()):
            raise ValueError("splits that cannot be")
    except (ValueError, KeyError) as error:
        raise ArtifactError(f"expected a boosted-tree model made by metainf train, found {error}") from None
    return Flat(features, base, **(found | {"leaf": found["leaf"].reshape(trees, width)}))


def from_xgboost(model: dict[str, Any]) -> Flat:
    """Flat arrays of a model that XGBoost wrote as JSON.

    Raises BadInput for what has no flat form: trees of more than 64 leaves, splits on categories, or an
    objective whose prediction is not the plain sum.
    """
    learner = model["learner"]
    objective = learner["objective"]["name"]
    if objective not in _IDENTITY:
        raise BadInput(f"expected an objective of {', '.join(sorted(_IDENTITY))}, found {objective}")
    splits: list[Node] = []
    leaves: list[list[float]] = []
    for number, tree in enumerate(learner["gradient_booster"]["model"]["trees"]):
        if any(tree["split_type"]):
            raise BadInput("expected splits on numbers, found one on categories")
        leaves.append([])
        _walk(tree, 0, number, splits, leaves[-1])
    most = max(map(len, leaves))
    width = next((w for w in WIDTHS if most <= w), 0)
    if not width:
        raise BadInput(
            f"expected trees of at most 64 leaves, found one of {most}: use a max_depth of 6 or less"
        )
    facts = learner["learner_model_param"]
    table: list[Any] = list(zip(*splits, strict=True)) or [()] * 8
    kinds = _layout(width)[:-1]
    arrays = {name: np.array(values, dtype=kind) for values, (name, kind) in zip(table, kinds, strict=True)}
    arrays["leaf"] = np.array([row + [0.0] * (width - len(row)) for row in leaves], dtype="<f4")
    return Flat(int(facts["num_feature"]), float(str(facts["base_score"]).strip("[]")), **arrays)


def _walk(tree: dict[str, Any], node: int, number: int, splits: list[Node], leaves: list[float]) -> int:
    """Note the splits and leaves below a node; returns the set of its leaves."""
    left, right = tree["left_children"][node], tree["right_children"][node]
    if left < 0:
        leaves.append(tree["split_conditions"][node])
        return 1 << (len(leaves) - 1)
    place = len(splits)
    splits.append((0, 0, 0.0, False, 0, 0, 0.0, 0.0))
    first = _walk(tree, left, number, splits, leaves)
    second = _walk(tree, right, number, splits, leaves)
    weights = tree["sum_hessian"]
    share = weights[left] / weights[node] if weights[node] else 0.5
    splits[place] = (
        number, tree["split_indices"][node], tree["split_conditions"][node], bool(tree["default_left"][node]),
        first, second, share, tree["loss_changes"][node],
    )  # fmt: skip
    return first | second
