"""The tensor as a picture asks for it: rows by columns, each place with its counts and one metric."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import sqlalchemy as sa

from metainf.domain import BadInput
from metainf.store.beside import prepare
from metainf.store.cells import AXES, AXIS, CELLS, METRICS, REASONS, TALLIES, axes_of, summed
from metainf.store.counting import Counting
from metainf.store.database import Database
from metainf.store.words import check_key

Rows = Literal["model", "workload", "hardware"]
Columns = Literal["method", "engine"]
FAILED = tuple(f"failed_{reason}" for reason in REASONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which places. `model`, `source`, `device`, `engine` are names as records hold them, `hardware` the id
    of a part; `failed` leaves only places with a failure. `most` bounds rows and columns, the fullest first.

    Rows of workloads are those of one model. Raises BadInput where that is missing or a word is unknown.
    """

    metric: str = "output_tokens_per_s"
    rows: Rows = "model"
    columns: Columns = "method"
    model: str | None = None
    device: str | None = None
    hardware: str | None = None
    engine: str | None = None
    source: str | None = None
    failed: bool = False
    most: int = 150

    def __post_init__(self) -> None:
        for name, value, known in (
            ("metric", self.metric, tuple(METRICS)),
            ("rows", self.rows, get_args(Rows)),
            ("columns", self.columns, get_args(Columns)),
        ):
            if value not in known:
                raise BadInput(f"{name} must be one of {', '.join(known)}, found {value!r:.80}")
        if self.rows == "workload" and self.model is None:
            raise BadInput("rows of workloads are those of one model: expected a model, found none")
        if self.most < 1:
            raise BadInput(f"expected at least 1 row and column, found {self.most}")
        for name in ("model", "device", "hardware", "engine", "source"):
            check_key(name, getattr(self, name))


class Axis(NamedTuple):
    """A row or column. `records` are all that stand there, whatever the filters."""

    code: int
    id: str
    label: str
    group: str | None
    records: int


Axes = dict[str, dict[int, Axis]]
Narrowed = dict[str, list[int]]
"""The codes that axes are narrowed to; axes that are not are absent."""
NAMED = ("model", "source", "hardware", "method")


class Cell(NamedTuple):
    """One place: codes of its row and column, its records, those failed by reason (in the order of REASONS),
    those with the metric, their geometric mean and their best; places without records are left out."""

    row: int
    column: int
    records: int
    failed: tuple[int, ...]
    measured: int
    typical: float | None
    best: float | None


class Found(NamedTuple):
    """Rows and columns with the most records first; `all_rows` and `all_columns` say how many there were."""

    rows: list[Axis]
    columns: list[Axis]
    cells: list[Cell]
    all_rows: int
    all_columns: int


class Tensor:
    """The counted records of one store, for reading. Raises StoreError when the database refuses."""

    def __init__(self, database: Database) -> None:
        self._database = database
        prepare(database)
        self._counting = Counting(database)

    def state(self) -> tuple[int, int]:
        """How many records are counted, and about how many are not yet."""
        query = sa.select(sa.func.sum(AXIS.c.records)).where(AXIS.c.axis == "source")
        with self._database.read() as connection:
            counted = int(connection.execute(query).scalar() or 0)
        return counted, self._counting.behind()

    def axes(self, axis: str) -> list[Axis]:
        """What stands along an axis, the fullest first."""
        if axis not in AXES:
            raise BadInput(f"expected an axis of {', '.join(AXES)}, found {axis!r:.80}")
        with self._database.read() as connection:
            return sorted(_axes(connection, (axis,))[axis].values(), key=_fullest)

    def read(self, wanted: Wanted) -> Found:
        """The places that are wanted."""
        with self._database.snapshot() as connection:
            axes = _axes(connection, AXES if wanted.rows == "workload" else NAMED)
            where = _narrowed(wanted, axes)
            if any(found == [] for found in where.values()):
                return Found([], [], [], 0, 0)
            table = _table(wanted.rows, where)
            # The key of that table begins with the source: naming all of them makes a search of a scan.
            narrowed = {"source": list(axes["source"])} | where if table is CELLS else where
            by_row, by_method = (
                {int(code): int(records) for code, records in connection.execute(query)}
                for query in (_totals(wanted, table, narrowed, key) for key in (wanted.rows, "method"))
            )
            shown = _shown(wanted, by_row, by_method, axes)
            rows = connection.execute(_seen_places(wanted, table, narrowed, shown)).all()
        return _laid_out(wanted, shown, rows, axes)


def _axes(connection: sa.Connection, names: tuple[str, ...]) -> Axes:
    found: Axes = {name: {} for name in names}
    for row in connection.execute(sa.select(AXIS).where(AXIS.c.axis.in_(names))):
        found[row.axis][row.code] = Axis(row.code, row.id, row.label, row.part_of, row.records)
    return found


def _fullest(axis: Axis) -> tuple[int, int]:
    return -axis.records, axis.code


def _narrowed(wanted: Wanted, axes: Axes) -> Narrowed:
    found: Narrowed = {}
    if wanted.model is not None:
        found["model"] = [code for code, each in axes["model"].items() if each.id == wanted.model]
    if wanted.source is not None:
        found["source"] = [code for code, each in axes["source"].items() if each.id == wanted.source]
    if wanted.engine is not None:
        found["method"] = [code for code, each in axes["method"].items() if each.group == wanted.engine]
    if wanted.device is not None or wanted.hardware is not None:
        of_device = {c: each for c, each in axes["hardware"].items() if wanted.device in (None, each.group)}
        found["hardware"] = [c for c, each in of_device.items() if wanted.hardware in (None, each.id)]
    return found


def _table(rows: Rows, where: Narrowed) -> sa.Table:
    """The smallest table that has what is asked for."""
    asked = {rows, *where}
    return next(table for table in reversed(TALLIES) if asked <= set(axes_of(table)))


class _Shown(NamedTuple):
    """The fullest rows and columns with their records, the column of each method, and the columns that are no
    method."""

    rows: dict[int, int]
    columns: dict[int, int]
    column_of: dict[int, int]
    named: dict[int, Axis]
    all_rows: int
    all_columns: int


def _shown(wanted: Wanted, by_row: dict[int, int], by_method: dict[int, int], axes: Axes) -> _Shown:
    """What is drawn of all there is."""
    column_of, named = {code: code for code in by_method}, {}
    if wanted.columns == "engine":
        names = sorted({axes["method"][code].group or "" for code in by_method})
        codes = {name: -place for place, name in enumerate(names, 1)}
        column_of = {code: codes[axes["method"][code].group or ""] for code in by_method}
        named = {code: Axis(code, name, name, None, 0) for name, code in codes.items()}
    by_column: Counter[int] = Counter()
    for code, records in by_method.items():
        by_column[column_of[code]] += records
    columns, rows = (
        dict(sorted(found.items(), key=lambda item: (-item[1], abs(item[0])))[: wanted.most])
        for found in (by_column, by_row)
    )
    return _Shown(rows, columns, column_of, named, len(by_row), len(by_column))


def _totals(wanted: Wanted, table: sa.Table, narrowed: Narrowed, key: str) -> sa.Select[Any]:
    """Records by the codes of a key; where failures alone are wanted, of the places that have some."""
    if wanted.failed:
        places = _places(wanted, table, narrowed, ["records"]).subquery().c
        return sa.select(places[key], sa.func.sum(places.records)).group_by(places[key])
    query = sa.select(table.c[key], sa.func.sum(table.c.records)).group_by(table.c[key])
    return query.where(*(table.c[name].in_(codes) for name, codes in narrowed.items()))


def _places(wanted: Wanted, table: sa.Table, narrowed: Narrowed, counts: Sequence[str]) -> sa.Select[Any]:
    """Places with some of their counts."""
    keys = (table.c[wanted.rows], table.c.method)
    query = sa.select(*keys, *(summed(table, name).label(name) for name in counts)).group_by(*keys)
    query = query.where(*(table.c[name].in_(codes) for name, codes in narrowed.items()))
    if wanted.failed:
        failed = sa.func.sum(sum((table.c[name] for name in FAILED[1:]), start=table.c[FAILED[0]]))
        query = query.having(failed > 0)
    return query


def _seen_places(wanted: Wanted, table: sa.Table, narrowed: Narrowed, shown: _Shown) -> sa.Select[Any]:
    """The places of the shown rows and columns: all there are may be many times as many."""
    narrowed = dict(narrowed)
    if len(shown.rows) < shown.all_rows:
        narrowed[wanted.rows] = list(shown.rows)
    if len(shown.columns) < shown.all_columns:
        narrowed["method"] = [code for code, column in shown.column_of.items() if column in shown.columns]
    metric = [f"{wanted.metric}_{what}" for what in ("count", "log", "best")]
    return _places(wanted, table, narrowed, ["records", *FAILED, *metric])


def _laid_out(wanted: Wanted, shown: _Shown, rows: Iterable[Any], axes: Axes) -> Found:
    """The shown rows and columns, and the cells where they meet."""
    places: dict[tuple[int, int], list[Any]] = {}
    for row in rows:
        places.setdefault((row[0], shown.column_of[row[1]]), []).append(row)
    along, across = axes[wanted.rows], axes["method"] | shown.named
    more = METRICS[wanted.metric] == "more"
    return Found(
        rows=[along[code]._replace(records=records) for code, records in shown.rows.items()],
        columns=[across[code]._replace(records=records) for code, records in shown.columns.items()],
        cells=[_cell(place, found, more) for place, found in places.items()],
        all_rows=shown.all_rows,
        all_columns=shown.all_columns,
    )


def _cell(place: tuple[int, int], rows: list[Any], more: bool) -> Cell:
    """The cell of what stands in one place: one row, or one for each method of an engine."""
    end = 3 + len(FAILED)
    measured = sum(int(row[end]) for row in rows)
    logs = [row[end + 1] for row in rows if row[end + 1] is not None]
    bests = [row[end + 2] for row in rows if row[end + 2] is not None]
    return Cell(
        *place,
        records=sum(int(row[2]) for row in rows),
        failed=tuple(sum(int(row[at]) for row in rows) for at in range(3, end)),
        measured=measured,
        typical=math.exp(math.fsum(logs) / measured) if measured else None,
        best=(max if more else min)(bests) if bests else None,
    )
