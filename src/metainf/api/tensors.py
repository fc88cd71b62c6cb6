"""The tensor of a store: what was measured where, counted."""

from typing import TYPE_CHECKING

from pydantic import NonNegativeInt

from metainf.domain import Frozen
from metainf.store.cells import METRICS, REASONS
from metainf.store.tensor import Axis, Cell, Columns, Rows, Wanted

if TYPE_CHECKING:
    from metainf.store import Store
    from metainf.store.counting import Counting
    from metainf.store.tensor import Tensor

__all__ = ["METRICS", "REASONS", "Axes", "Columns", "Line", "Places", "Rows", "Wanted", "axes", "places"]


class Line(Frozen):
    """A row, a column or one thing along an axis: `name` is what it is asked for by, `label` what it is
    called, `group` the device of a hardware or the engine of a method; `records` how many there are (in a
    picture: of those that are wanted)."""

    code: int
    name: str
    label: str
    group: str | None = None
    records: NonNegativeInt


class Places(Frozen):
    """A picture of the tensor. Each cell is [row, column, records, failed, measured, typical, best]: codes of
    a row and a column, failures by reason in the order of `reasons`, records with the metric, their geometric
    mean and their best. Places without records are left out. `behind`: about so many are not counted yet.
    """

    metric: str
    reasons: tuple[str, ...] = REASONS
    rows: tuple[Line, ...]
    columns: tuple[Line, ...]
    cells: tuple[Cell, ...]
    all_rows: NonNegativeInt
    all_columns: NonNegativeInt
    counted: NonNegativeInt
    behind: NonNegativeInt


class Axes(Frozen):
    """What a store holds along each axis, the fullest first; `metrics` says which way each is better."""

    models: tuple[Line, ...]
    hardware: tuple[Line, ...]
    engines: tuple[Line, ...]
    sources: tuple[Line, ...]
    metrics: dict[str, str]
    counted: NonNegativeInt
    behind: NonNegativeInt


def tensor(opened: "Store") -> "Tensor":
    """The counted records of a store."""
    from metainf.store.tensor import Tensor

    return Tensor(opened.database)


def counting(opened: "Store") -> "Counting":
    """What counts them."""
    from metainf.store.counting import Counting

    return Counting(opened.database)


def places(of: "Tensor", wanted: Wanted) -> Places:
    """The places of a tensor that are wanted."""
    counted, behind = of.state()
    found = of.read(wanted)
    return Places.model_construct(
        metric=wanted.metric,
        rows=tuple(_line(each) for each in found.rows),
        columns=tuple(_line(each) for each in found.columns),
        cells=tuple(found.cells),
        all_rows=found.all_rows,
        all_columns=found.all_columns,
        counted=counted,
        behind=max(behind, 0),
    )


def axes(of: "Tensor") -> Axes:
    """What there is to ask for."""
    counted, behind = of.state()
    engines: dict[str, int] = {}
    for each in of.axes("method"):
        engines[each.group or ""] = engines.get(each.group or "", 0) + each.records
    named = [Axis(-place, name, name, None, count) for place, (name, count) in enumerate(engines.items(), 1)]
    return Axes(
        models=_lines(of.axes("model")),
        hardware=_lines(of.axes("hardware")),
        engines=_lines(sorted(named, key=lambda each: -each.records)),
        sources=_lines(of.axes("source")),
        metrics=dict(METRICS),
        counted=counted,
        behind=max(behind, 0),
    )


def _lines(found: list[Axis]) -> tuple[Line, ...]:
    return tuple(_line(each) for each in found)


def _line(axis: Axis) -> Line:
    return Line(code=axis.code, name=axis.id, label=axis.label, group=axis.group, records=axis.records)
