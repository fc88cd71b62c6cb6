"""The tensor as a picture asks for it: rows by columns, each place with its counts and one metric."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import sqlalchemy as sa

from metainf.domain import BadInput
from metainf.store.beside import prepare
from metainf.store.cells import AXES, AXIS, CELLS, METRICS, REASONS, TALLIES, axes_of
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
        return sorted(self._axes((axis,))[axis].values(), key=_fullest)

    def read(self, wanted: Wanted) -> Found:
        """The places that are wanted."""
        axes = self._axes(AXES if wanted.rows == "workload" else NAMED)
        where = _narrowed(wanted, axes)
        if any(found == [] for found in where.values()):
            return Found([], [], [], 0, 0)
        with self._database.read() as connection:
            rows = connection.execute(_query(wanted, where, list(axes["source"]))).all()
        return _laid_out(wanted, rows, axes)

    def _axes(self, names: tuple[str, ...]) -> Axes:
        found: Axes = {name: {} for name in names}
        with self._database.read() as connection:
            for row in connection.execute(sa.select(AXIS).where(AXIS.c.axis.in_(names))):
                found[row.axis][row.code] = Axis(row.code, row.id, row.label, row.part_of, row.records)
        return found


def _fullest(axis: Axis) -> tuple[int, int]:
    return -axis.records, axis.code


def _narrowed(wanted: Wanted, axes: Axes) -> dict[str, list[int]]:
    """The codes that axes are narrowed to; axes that are not are absent."""
    found: dict[str, list[int]] = {}
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


def _table(rows: Rows, where: dict[str, list[int]]) -> sa.Table:
    """The smallest table that has what is asked for."""
    asked = {rows, *where}
    return next(table for table in reversed(TALLIES) if asked <= set(axes_of(table)))


def _query(wanted: Wanted, where: dict[str, list[int]], sources: list[int]) -> sa.Select[Any]:
    table = _table(wanted.rows, where)
    column, metric = table.c, wanted.metric
    best = sa.func.max if METRICS[metric] == "more" else sa.func.min
    sums = [sa.func.sum(column[name]) for name in ("records", *FAILED, f"{metric}_count", f"{metric}_log")]
    keys = (column[wanted.rows], column.method)
    query = sa.select(*keys, *sums, best(column[f"{metric}_best"])).group_by(*keys)
    # The key of that table begins with the source: naming all of them makes a search of a scan.
    narrowed = {"source": sources} | where if table is CELLS else where
    for name, codes in narrowed.items():
        query = query.where(column[name].in_(codes))
    if wanted.failed:
        failed = sa.func.sum(sum((column[name] for name in FAILED[1:]), start=column[FAILED[0]]))
        query = query.having(failed > 0)
    return query


def _laid_out(wanted: Wanted, rows: Any, axes: Axes) -> Found:
    """The fullest rows and columns, and the cells where they meet."""
    engines: dict[str, int] = {}
    methods = axes["method"]
    if wanted.columns == "engine":
        for row in rows:
            engines.setdefault(methods[row[1]].group or "", -len(engines) - 1)

    def column_of(code: int) -> int:
        return code if wanted.columns == "method" else engines[methods[code].group or ""]

    in_rows: Counter[int] = Counter()
    in_columns: Counter[int] = Counter()
    for row in rows:
        in_rows[row[0]] += row[2]
        in_columns[column_of(row[1])] += row[2]
    shown_rows = {code: None for code, _ in in_rows.most_common(wanted.most)}
    shown_columns = {code: None for code, _ in in_columns.most_common(wanted.most)}
    places: dict[tuple[int, int], list[Any]] = {}
    for row in rows:
        place = row[0], column_of(row[1])
        if place[0] in shown_rows and place[1] in shown_columns:
            places.setdefault(place, []).append(row)
    named = {code: Axis(code, name, name, None, in_columns[code]) for name, code in engines.items()}
    return Found(
        rows=[axes[wanted.rows][code]._replace(records=in_rows[code]) for code in shown_rows],
        columns=[(methods | named)[code]._replace(records=in_columns[code]) for code in shown_columns],
        cells=[_cell(place, found, METRICS[wanted.metric] == "more") for place, found in places.items()],
        all_rows=len(in_rows),
        all_columns=len(in_columns),
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
