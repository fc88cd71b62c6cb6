"""One column for each name: the plainest encoding of a model, device, engine or kind."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, field_validator

from metainf.domain import BadInput, Frozen

UNKNOWN = "?"
"""The bucket of names that were not in the vocabulary, and of names that are not known (None)."""


class OneHot(Frozen):
    """A fitted vocabulary. It is a frozen value: `canonical()` stores it, `OneHot.parse` brings it back.

    Columns are the names in code point order, whatever the order they came in, then the unknown bucket.
    """

    prefix: str = Field(min_length=1)
    names: tuple[str, ...]

    @field_validator("names")
    @classmethod
    def _sorted_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if list(value) != sorted(set(value) - {UNKNOWN, ""}):
            raise ValueError(f"names must be sorted, distinct, and neither empty nor {UNKNOWN!r}")
        return value

    @classmethod
    def fit(cls, prefix: str, names: Iterable[str | None], min_count: PositiveInt = 1) -> "OneHot":
        """Learn the names seen at least `min_count` times; the rarer ones share the unknown bucket."""
        if min_count < 1:
            raise BadInput(f"min_count must be at least 1, found {min_count}")
        counts = Counter(name for name in names if name and name != UNKNOWN)
        return cls(prefix=prefix, names=tuple(sorted(n for n, seen in counts.items() if seen >= min_count)))

    def columns(self) -> tuple[str, ...]:
        """Column names, such as `engine=vllm` and last `engine=?`."""
        return tuple(f"{self.prefix}={name}" for name in (*self.names, UNKNOWN))

    def embed(self, names: Sequence[str | None]) -> npt.NDArray[np.float32]:
        """Exactly one 1 in each row: float32 (n, names + 1)."""
        if isinstance(names, str):
            raise BadInput("expected a sequence of names, found one name: put it in a list")
        places = {name: place for place, name in enumerate(self.names)}
        rows = np.zeros((len(names), len(self.names) + 1), dtype=np.float32)
        for row, name in enumerate(names):
            rows[row, len(self.names) if name is None else places.get(name, len(self.names))] = 1
        return rows
