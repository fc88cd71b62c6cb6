"""What tells blocks where in its text a token stands: learnt positions, or rotary tables."""

from collections.abc import Sequence
from typing import Any

from metainf.swarm.compute.ragged import Row

CHANGING = ("dynamic", "longrope")
"""Rotary frequencies that depend on the length of a text: they are computed for each session on its own."""
FIRST_POSITIONS = 1024


class Learnt:
    """Vectors for positions, added to the activations before the first block."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.most = int(module.num_embeddings)

    def __call__(self, hidden: Any, rows: Sequence[Row]) -> tuple[Any, dict[str, Any]]:
        weight = self.module.weight
        return hidden + _joined([weight[row.position : row.position + row.count][None] for row in rows]), {}


class Rotary:
    """Cosines and sines that every block applies. They are computed once for each position by the library's
    own module, and looked up afterwards: the numbers are the same, a pass is spared the work."""

    most = None

    def __init__(self, module: Any, config: Any) -> None:
        self.module, self.config = module, config
        self.changing = getattr(module, "rope_type", "default") in CHANGING
        self.known = 0
        self.tables: tuple[Any, ...] = ()

    def __call__(self, hidden: Any, rows: Sequence[Row]) -> tuple[Any, dict[str, Any]]:
        each = [self._of(hidden, row.position, row.position + row.count) for row in rows]
        joined = tuple(_joined(list(kind)) for kind in zip(*each, strict=True))
        return hidden, {"position_embeddings": joined}

    def _of(self, hidden: Any, begin: int, end: int) -> tuple[Any, ...]:
        if self.changing:
            return self._computed(type(self.module)(config=self.config), hidden, begin, end)
        if end > self.known:
            self.known = max(FIRST_POSITIONS, 2 * self.known, end)
            self.tables = self._computed(self.module, hidden, 0, self.known)
        return tuple(table[:, begin:end] for table in self.tables)

    def _computed(self, module: Any, hidden: Any, begin: int, end: int) -> tuple[Any, ...]:
        import torch

        return tuple(module(hidden, position_ids=torch.arange(begin, end)[None]))


def nothing(hidden: Any, rows: Sequence[Row]) -> tuple[Any, dict[str, Any]]:
    """Blocks behind the first of a model with learnt positions are told nothing."""
    return hidden, {}


def _joined(parts: list[Any]) -> Any:
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
