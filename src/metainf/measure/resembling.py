"""How like real digits drawn ones are: whether each could be real, and whether they are as various. Pure.

To be recognised is not enough: a model that draws the mean of each class every time is always recognised.
So two shares are taken, class by class, in the space of the pixels, against real digits that the models never
saw (Kynkäänniemi and others, "Improved Precision and Recall Metric for Assessing Generative Models", 2019):

* *true*: of the drawn digits those that a classifier takes for what was asked and that lie among real ones,
  within the distance from a real one to its third neighbour. Noise and wrong digits lower it;
* *covered*: of the real digits those that lie among the drawn ones in the same sense. Sameness lowers it.

The quality of a record is their harmonic mean. It is 0 where either is: of the same picture over and over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metainf.measure.recognising import Part, parts, right

METRIC = "real_digits_f1"
NEIGHBOUR = 3
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Resemblance:
    """Shares in 0..1: of drawn digits that are true, of real ones that are covered."""

    true: float
    covered: float

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 0 where either is."""
        total = self.true + self.covered
        return 2 * self.true * self.covered / total if total else 0.0


def resemblance(pictures: Floats, labels: Sequence[int]) -> Resemblance | None:
    """Of drawn digits (n, 8, 8) or (n, 8, 8, 1) in 0..1 that were asked to be `labels` (n).

    As many real digits of each class are taken as were drawn, always the same ones; of the same number of
    pictures figures compare, fewer give higher ones. None where a class has three or fewer.
    """
    asked = np.asarray(labels)
    classes, counts = np.unique(asked, return_counts=True)
    if not len(asked) or counts.min() <= NEIGHBOUR:
        return None
    good, rows, others = right(pictures, labels), _rows(pictures), unseen()
    true, covered = np.zeros(len(asked), dtype=np.bool_), []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        own, real = rows[asked == label], _rows(others.pictures[others.labels == label][:count])
        apart = _distances(own, real)
        true[asked == label] = (apart <= _reach(real)).any(axis=1)
        covered.append((apart <= _reach(own)[:, None]).any(axis=0))
    return Resemblance(float(np.mean(true & good)), float(np.mean(np.concatenate(covered))))


def unseen() -> Part:
    """Real digits that no model which draws has learnt from."""
    _, taught, judged = parts()
    return Part(
        np.concatenate([taught.pictures, judged.pictures]), np.concatenate([taught.labels, judged.labels])
    )


def own_resemblance(each: int) -> Resemblance | None:
    """Of real digits, `each` of a class, of those that the models learnt from: the most that a drawer of as
    many can be told to reach."""
    seen = parts()[0]
    places = np.concatenate([np.flatnonzero(seen.labels == label)[:each] for label in np.unique(seen.labels)])
    return resemblance(seen.pictures[places], seen.labels[places].tolist())


def _rows(pictures: Floats) -> NDArray[np.float64]:
    return np.asarray(pictures, dtype=np.float64).reshape(len(pictures), -1)


def _distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances (n, m) of rows."""
    return np.asarray(np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=-1)))


def _reach(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each row to its third neighbour among the others; 0 where these are all the same."""
    most = min(NEIGHBOUR, len(rows) - 1)
    return np.asarray(np.sort(_distances(rows, rows), axis=1)[:, most])
