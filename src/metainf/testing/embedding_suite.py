"""The contract of every embedding. Inherit `EmbeddingSuite` in a test class and fill in its three hooks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class EmbeddingSuite:
    """Things to numbers: fixed width, named columns, the same numbers for the same thing.

    `inputs` gives at least three things that differ; `nan_columns` names the columns in which NaN ("not
    known") is allowed. `tolerance` is how far two embeddings of one thing may differ (0: not at all).
    """

    tolerance: float = 0.0

    def embed(self, things: Sequence[Any]) -> npt.NDArray[Any]:
        """The embedding under test, on a fresh object (nothing remembered from the call before)."""
        raise NotImplementedError

    def columns(self) -> Sequence[str]:
        """Its column names."""
        raise NotImplementedError

    def inputs(self) -> list[Any]:
        """Things to embed."""
        raise NotImplementedError

    def nan_columns(self) -> frozenset[str]:
        """Columns that may hold NaN."""
        return frozenset()

    def test_one_row_for_each_thing_and_one_column_for_each_name(self) -> None:
        things = self.inputs()
        assert len(things) >= 3, "the suite needs at least three inputs"
        rows = self.embed(things)
        assert rows.shape == (len(things), len(self.columns()))
        assert np.issubdtype(rows.dtype, np.floating), f"expected floats, found {rows.dtype}"

    def test_nothing_in_gives_no_rows_of_full_width(self) -> None:
        assert self.embed([]).shape == (0, len(self.columns()))

    def test_finite_where_nan_is_not_declared(self) -> None:
        rows, names = self.embed(self.inputs()), list(self.columns())
        assert not np.isinf(rows).any(), "infinity is never a feature"
        found = {name for place, name in enumerate(names) if np.isnan(rows[:, place]).any()}
        assert found <= self.nan_columns(), (
            f"NaN in undeclared columns {sorted(found - self.nan_columns())[:8]}"
        )

    def test_columns_are_named_once_and_stay(self) -> None:
        names = list(self.columns())
        assert names == list(self.columns())
        assert len(names) == len(set(names)), "two columns share a name"
        assert all(isinstance(name, str) and name.strip() == name != "" for name in names)

    def test_declared_nan_columns_exist(self) -> None:
        assert self.nan_columns() <= set(self.columns())

    def test_deterministic(self) -> None:
        things = self.inputs()
        self._same(self.embed(things), self.embed(things))

    def test_equal_things_get_equal_rows(self) -> None:
        things = self.inputs()
        rows = self.embed([*things, things[0], things[0]])
        self._same(rows[[0, 0]], rows[-2:])

    def test_rows_do_not_depend_on_their_neighbours(self) -> None:
        things = self.inputs()
        alone = np.concatenate([self.embed([thing]) for thing in things])
        self._same(alone, self.embed(things))
        self._same(alone[::-1], self.embed(things[::-1]))

    def test_different_things_get_different_rows(self) -> None:
        rows = self.embed(self.inputs())
        assert len(np.unique(np.nan_to_num(rows, nan=-1e30), axis=0)) > 1, "every input became the same row"

    def _same(self, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=self.tolerance, equal_nan=True)
