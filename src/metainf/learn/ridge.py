"""Robust ridge regression: squared error near, linear far, standardised inputs, an unpenalised level."""

from typing import Any

import numpy as np

from metainf.learn.views import Floats

PENALTY = 3.0
BEND = 0.2
"""Residual from which on an error counts linearly (Huber)."""
TURNS = 5


class Ridge:
    """y ≈ level + x · slopes."""

    def __init__(self, level: float, slopes: Floats) -> None:
        self.level, self.slopes = level, slopes

    @classmethod
    def fit(cls, x: Floats, y: Floats, weights: Floats) -> "Ridge":
        """By iteratively reweighted least squares. x: finite (n, d); y, weights: (n,)."""
        mean, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        a = np.column_stack([np.ones(len(y)), (x - mean) / spread])
        penalty = np.diag([1e-6, *np.full(x.shape[1], PENALTY)])
        found = np.zeros(a.shape[1])
        for _ in range(TURNS):
            pull = weights / np.maximum(np.abs(y - a @ found) / BEND, 1.0)
            found = np.linalg.solve((a * pull[:, None]).T @ a + penalty, (a * pull[:, None]).T @ y)
        slopes = found[1:] / spread
        return cls(float(found[0] - mean @ slopes), slopes)

    def predict(self, x: Floats) -> Floats:
        """Values (n,)."""
        return np.asarray(self.level + x @ self.slopes)

    def dump(self) -> dict[str, Any]:
        """JSON-able state."""
        return {"level": self.level, "slopes": self.slopes.tolist()}

    @classmethod
    def load(cls, state: dict[str, Any]) -> "Ridge":
        """The regression that `dump` gave away."""
        return cls(float(state["level"]), np.array(state["slopes"], dtype=np.float64))
