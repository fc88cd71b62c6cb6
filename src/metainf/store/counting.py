"""Counting records into the cells of the tensor: a step at a time, each in a short transaction of its own."""

from collections import Counter
from typing import Any

import sqlalchemy as sa

from metainf.domain import Hardware, Method
from metainf.domain.shown import hardware_words, method_words, workload_words
from metainf.store.beside import prepare
from metainf.store.cells import (
    AXES,
    AXIS,
    CELLS,
    COUNTED,
    COUNTS,
    METRICS,
    TALLIES,
    Seen,
    add_up,
    axes_of,
    seen,
    summed,
)
from metainf.store.database import Database
from metainf.store.rows import build_part
from metainf.store.tables import PARTS, RECORDS

STEP = 20_000
"""Records of one step."""
LOOKUP = 500
COLUMNS = {axis: RECORDS.c[axis if axis in ("model", "source") else f"{axis}_part"] for axis in AXES}
Key = tuple[str, str]


class Counting:
    """Brings the cells of one store up to its records. Several processes may: each record counts once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._codes: dict[Key, int] = {}
        prepare(database)
        _catch_up(database)

    def behind(self) -> int:
        """About how many records are not counted yet; 0 only where all are."""
        with self._database.read() as connection:
            last = connection.execute(sa.select(sa.func.max(RECORDS.c.seq))).scalar() or 0
            return int(last) - _counted(connection)

    def advance(self, most: int = STEP) -> int:
        """Count up to `most` more records; how many were looked at, 0 where all are counted."""
        with self._database.read() as connection:
            start = _counted(connection)
            columns = (RECORDS.c.seq, *COLUMNS.values(), RECORDS.c.failed_reason, RECORDS.c.outcome)
            query = sa.select(*columns).where(RECORDS.c.seq > start).order_by(RECORDS.c.seq).limit(most)
            rows = connection.execute(query).all()
        if not rows:
            return 0
        keys: Counter[Key] = Counter()
        for row in rows:
            keys.update(zip(AXES, row[1:6], strict=True))
        with self._database.write() as connection:
            if _counted(connection) == start:  # else another process was quicker, and these are counted
                codes = self._name(connection, keys)
                records = [_seen(row, codes) for row in rows]
                for table in TALLIES:
                    self._merge(connection, table, add_up(records, axes_of(table)))
                _mark(connection, start, rows[-1].seq)
        return len(rows)

    def _merge(self, connection: sa.Connection, table: sa.Table, rows: list[list[Any]]) -> None:
        """Add rows to a table. They go to the driver as they are: there are many, and all are numbers."""
        statement = _merging(table, self._database.is_sqlite)
        made = statement.compile(dialect=connection.dialect)
        names = [*axes_of(table), *COUNTS]
        if made.positiontup is not None:
            assert list(made.positiontup) == names
            connection.exec_driver_sql(str(made), [tuple(row) for row in rows])
        else:
            connection.exec_driver_sql(str(made), [dict(zip(names, row, strict=True)) for row in rows])

    def _name(self, connection: sa.Connection, keys: Counter[Key]) -> dict[Key, int]:
        """The codes of what stands along the axes; what is new gets one, and each its share of records."""
        codes = _known(connection, keys)
        new = [key for key in keys if key not in codes]
        bodies = _bodies(connection, [name for axis, name in new if axis not in ("model", "source")])
        made = [_axis(axis, name, bodies.get(name)) for axis, name in new]
        if made:
            connection.execute(sa.insert(AXIS), made)
            codes |= _known(connection, Counter(new))
        more = sa.update(AXIS).where(AXIS.c.code == sa.bindparam("at"))
        more = more.values(records=AXIS.c.records + sa.bindparam("more"))
        connection.execute(more, [{"at": codes[key], "more": count} for key, count in keys.items()])
        return codes


def _catch_up(database: Database) -> None:
    """Fill a table that an earlier version did not keep from the one of every place: whole or not at all."""

    def lacking(connection: sa.Connection) -> list[sa.Table]:
        def some(table: sa.Table) -> bool:
            return connection.execute(sa.select(table.c.records).limit(1)).first() is not None

        return [table for table in TALLIES if table is not CELLS and not some(table)] if some(CELLS) else []

    with database.read() as connection:
        due = bool(lacking(connection))
    if not due:
        return
    with database.write() as connection:
        for table in lacking(connection):
            keys = [CELLS.c[axis] for axis in axes_of(table)]
            sums = sa.select(*keys, *(summed(CELLS, name) for name in COUNTS)).group_by(*keys)
            connection.execute(sa.insert(table).from_select([*axes_of(table), *COUNTS], sums))


def _counted(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(COUNTED.c.seq)).scalar() or 0)


def _mark(connection: sa.Connection, start: int, seq: int) -> None:
    if not connection.execute(sa.update(COUNTED).values(seq=seq)).rowcount:
        assert start == 0
        connection.execute(sa.insert(COUNTED).values(one=1, seq=seq))


def _seen(row: Any, codes: dict[Key, int]) -> Seen:
    found = tuple(codes[key] for key in zip(AXES, row[1:6], strict=True))
    return seen(found, row.failed_reason, row.outcome)


def _known(connection: sa.Connection, keys: Counter[Key]) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for axis in AXES:
        names = sorted(name for of, name in keys if of == axis)
        for start in range(0, len(names), LOOKUP):
            where = (AXIS.c.axis == axis, AXIS.c.id.in_(names[start : start + LOOKUP]))
            for code, name in connection.execute(sa.select(AXIS.c.code, AXIS.c.id).where(*where)):
                found[axis, name] = code
    return found


def _bodies(connection: sa.Connection, ids: list[str]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(ids), LOOKUP):
        query = sa.select(PARTS).where(PARTS.c.id.in_(ids[start : start + LOOKUP]))
        found |= {row.id: (row.kind, row.body) for row in connection.execute(query)}
    return found


def _axis(axis: str, name: str, body: tuple[str, str] | None) -> dict[str, Any]:
    """A row of the axes, with its words."""
    label, part_of = name, None
    if body is not None:
        part = build_part(name, *body)
        if isinstance(part, Method):
            label, part_of = method_words(part), part.engine
            label += f" ({part.engine_version})" if part.engine_version else ""
        elif isinstance(part, Hardware):
            label, part_of = hardware_words(part), part.device.name
        else:
            label = workload_words(part)  # type: ignore[arg-type]
    return {"axis": axis, "id": name, "label": label, "part_of": part_of, "records": 0}


def _merging(table: sa.Table, sqlite: bool) -> Any:
    """Rows added to those of the same place."""
    if sqlite:
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    statement = insert(table)
    there, new = table.c, statement.excluded
    changed: dict[str, Any] = {}
    for name in COUNTS:
        changed[name] = there[name] + new[name]
        if name.endswith("_log"):
            changed[name] = sa.func.coalesce(there[name] + new[name], there[name], new[name])
        elif name.endswith("_best"):
            more = METRICS[name.removesuffix("_best")] == "more"
            better = new[name] > there[name] if more else new[name] < there[name]
            takes = sa.and_(new[name].is_not(None), sa.or_(there[name].is_(None), better))
            changed[name] = sa.case((takes, new[name]), else_=there[name])
    return statement.on_conflict_do_update(index_elements=list(axes_of(table)), set_=changed)
