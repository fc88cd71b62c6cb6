"""How many drawn digits are what they were asked to be, by a classifier that never saw what the drawer saw.

scikit-learn's 1,797 handwritten digits are split once: 60 % teach the models that draw, 30 % the classifier,
and on the last 10 % the classifier itself is judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import MissingExtra

DRAWN, JUDGED = 0.6, 0.1
SEED = 0

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Pictures (n, 8, 8) in 0..1 and the digit that each shows."""

    pictures: Floats
    labels: NDArray[np.int64]


@cache
def parts() -> tuple[Part, Part, Part]:
    """What the drawers learn from, what the classifier learns from, what it is judged on."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingExtra("judging drawn digits", "images") from None
    found = load_digits()
    pictures, labels = (found.images / 16).astype(np.float32), found.target.astype(np.int64)
    drawn, others = train_test_split(
        np.arange(len(labels)), train_size=DRAWN, stratify=labels, random_state=SEED
    )
    taught, judged = train_test_split(
        others, test_size=JUDGED / (1 - DRAWN), stratify=labels[others], random_state=SEED
    )
    first, second, third = (Part(pictures[rows], labels[rows]) for rows in (drawn, taught, judged))
    return first, second, third


@cache
def _classifier() -> Any:
    from sklearn.svm import SVC

    taught = parts()[1]
    return SVC(gamma=0.1, C=10).fit(_rows(taught.pictures), taught.labels)


def right(pictures: Floats, labels: Sequence[int]) -> NDArray[np.bool_]:
    """Which pictures (n, 8, 8) or (n, 8, 8, 1) in 0..1 the classifier takes for their label (n); none that is
    not finite."""
    parts()
    rows = _rows(np.asarray(pictures, dtype=np.float32))
    told = _classifier().predict(np.nan_to_num(rows))
    return np.asarray((told == np.asarray(labels)) & np.isfinite(rows).all(axis=1))


def recognised(pictures: Floats, labels: Sequence[int]) -> float:
    """Share of the pictures that the classifier takes for their label."""
    return float(np.mean(right(pictures, labels)))


def own_accuracy() -> float:
    """The classifier's share on real digits that it never saw: the most that a drawer can be told to
    reach."""
    judged = parts()[2]
    return recognised(judged.pictures, judged.labels.tolist())


def _rows(pictures: Floats) -> Floats:
    return pictures.reshape(len(pictures), -1)
