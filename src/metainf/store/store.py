"""The store itself: add, count, query, follow, export, merge, check."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from metainf.domain import BadInput, Frozen, Record, StoreError, content_id
from metainf.store.database import Database
from metainf.store.rows import Decoder, Encoder, Entry, build_part, canonical_record, read_json
from metainf.store.tables import PARTS, RECORDS, conditions
from metainf.store.words import PART_KINDS, Added, Filter, PartKind, Row, SourceSummary

BATCH = 2000
"""Records of one transaction when adding, and of one round trip when reading."""
LOOKUP = 500
"""Identifiers of one IN list."""
PART_COLUMNS = tuple(RECORDS.c[f"{kind}_part"] for kind in PART_KINDS)


class Store:
    """An append-only set of records. Made by `open_store`; usable as a context manager.

    Every method raises StoreError when the database refuses (full disk, read-only, damaged).
    Readers see the records that were there when they began.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._encoder, self._decoder = Encoder(), Decoder()
        self._parts_stored: set[str] = set()

    @property
    def name(self) -> str:
        """Path or URL (without password), for messages."""
        return self._database.name

    @property
    def database(self) -> Database:
        """The connection, for what lies beside the records (keys, imports)."""
        return self._database

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(
        self,
        records: Iterable[Record],
        on_commit: Callable[[Added], None] | None = None,
        batch: int = BATCH,
    ) -> Added:
        """Add records; those already there are left as they are.

        Each `batch` is one transaction; when `on_commit` is called with its counts, or `add`
        returns, those records are on disk. An error keeps the batches committed before it. Raises
        BadInput for a record with a value outside its schema (NaN), and then adds none of its batch.
        """
        total, source = Added(0, 0), iter(records)
        while chunk := list(islice(source, batch)):
            added = self._commit([self._encoder.entry(record) for record in chunk])
            total += added
            if on_commit is not None:
                on_commit(added)
        return total

    def _commit(self, entries: Sequence[Entry]) -> Added:
        fresh = {entry.row["id"]: entry for entry in entries}
        with self._database.write() as connection:
            for known in self._existing(connection, RECORDS.c.id, list(fresh)):
                del fresh[known]
            parts = {
                part.id: part
                for entry in fresh.values()
                for part in entry.parts
                if part.id not in self._parts_stored
            }
            there = self._existing(connection, PARTS.c.id, list(parts))
            if missing := [part._asdict() for part_id, part in parts.items() if part_id not in there]:
                connection.execute(sa.insert(PARTS), missing)
            if fresh:
                connection.execute(sa.insert(RECORDS), [entry.row for entry in fresh.values()])
        self._parts_stored.update(parts)
        return Added(len(fresh), len(entries) - len(fresh))

    @staticmethod
    def _existing(connection: sa.Connection, column: sa.Column[Any], ids: list[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(ids), LOOKUP):
            found.update(connection.scalars(sa.select(column).where(column.in_(ids[start : start + LOOKUP]))))
        return found

    def count(self, where: Filter | None = None) -> int:
        """Number of records that match."""
        query = sa.select(sa.func.count()).select_from(RECORDS).where(*conditions(where))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def get(self, record_id: str) -> Record | None:
        """The record of one content id, or None."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(RECORDS).where(RECORDS.c.id == record_id)).first()
        if row is None:
            return None
        self._load_parts([row])
        return self._decoder.record(row)

    def query(self, where: Filter | None = None, batch: int = BATCH) -> Iterator[Record]:
        """Matching records, oldest addition first."""
        for _, record in self._records(0, where, batch):
            yield record

    def page(self, cursor: int, where: Filter | None, limit: int) -> list[tuple[int, Record]]:
        """At most `limit` matching records added after `cursor` (0 is the start), each with its own."""
        found = self._records(cursor, where, limit)
        return list(islice(found, limit))

    def since(self, cursor: int = 0) -> Iterator[tuple[int, Record]]:
        """Records added after `cursor`, each with its own cursor to go on from later. 0 is the start."""
        return self._records(cursor, None, BATCH)

    def _records(self, cursor: int, where: Filter | None, batch: int) -> Iterator[tuple[int, Record]]:
        columns = (RECORDS.c.seq, RECORDS.c.id, RECORDS.c.status, *PART_COLUMNS)
        for rows in self._pages((*columns, RECORDS.c.outcome, RECORDS.c.provenance), cursor, where, batch):
            self._load_parts(rows)
            for row in rows:
                yield row.seq, self._decoder.record(row)

    def rows(self, where: Filter | None = None, batch: int = BATCH) -> Iterator[list[Row]]:
        """The fast lane for bulk training: batches of part ids and plain dictionaries.

        Look the part ids up in `parts(kind)`. `outcome` is a dumped Measured or Failed,
        `provenance` a dumped Provenance; absent keys are None.
        """
        columns = (RECORDS.c.seq, RECORDS.c.id, *PART_COLUMNS, RECORDS.c.outcome, RECORDS.c.provenance)
        for page in self._pages(columns, 0, where, batch):
            yield [
                Row(
                    seq,
                    name,
                    model,
                    workload,
                    hardware,
                    method,
                    read_json(name, out),
                    read_json(name, origin),
                )
                for seq, name, model, workload, hardware, method, out, origin in page
            ]

    def parts(self, kind: PartKind) -> dict[str, Frozen]:
        """Every model, workload, hardware or method in the store, by part id."""
        if kind not in PART_KINDS:
            raise BadInput(f"expected a part kind of {', '.join(PART_KINDS)}, found {kind!r}")
        query = sa.select(PARTS.c.id, PARTS.c.body).where(PARTS.c.kind == kind).order_by(PARTS.c.id)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return {part_id: build_part(part_id, kind, body) for part_id, body in found}

    def sources(self) -> list[SourceSummary]:
        """One line for each source, by name."""
        column = RECORDS.c
        failed = sa.func.sum(sa.case((column.status == "failed", 1), else_=0))
        query = (
            sa.select(
                column.source,
                sa.func.count(),
                failed,
                sa.func.count(column.model.distinct()),
                sa.func.count(column.device.distinct()),
                sa.func.min(column.date),
                sa.func.max(column.date),
            )
            .group_by(column.source)
            .order_by(column.source)
        )
        with self._database.read() as connection:
            return [SourceSummary(*row) for row in connection.execute(query)]

    def export(self, path: str | Path, where: Filter | None = None) -> int:
        """Write matching records to a .parquet or .jsonl file and return their number.

        The file appears whole or not at all. Raises BadInput for another suffix.
        """
        from metainf.store.files import write_records

        return write_records(Path(path), self.query(where))

    def merge(self, other: "str | Path | Store", on_commit: Callable[[Added], None] | None = None) -> Added:
        """Add every record of an exported file (.parquet, .jsonl), a store file or URL, or a Store.

        `on_commit` is called as by `add`.

        Raises BadInput naming the line or row of a torn or foreign file, after adding the good
        records before it.
        """
        from metainf.store.files import SUFFIXES, read_records

        if isinstance(other, Store):
            return self.add(other.query(), on_commit)
        if "://" in str(other) or Path(other).suffix not in SUFFIXES:
            from metainf.store import open_store

            with open_store(other, create=False) as store:
                return self.add(store.query(), on_commit)
        failure: list[BadInput] = []

        def good() -> Iterator[Record]:
            try:
                yield from read_records(Path(other))
            except BadInput as error:
                failure.append(error)

        added = self.add(good(), on_commit)
        if failure:
            kept = f" ({added.new} new and {added.known} known records before it are safe)"
            raise BadInput(f"{failure[0]}{kept if added.new + added.known else ''}") from failure[0]
        return added

    def check(self) -> int:
        """Recompute every content id from what is stored and return the number of records.

        Raises StoreError naming the first part or record whose text is not what its id says.
        """
        with self._database.read() as connection:
            parts: dict[str, tuple[PartKind, str]] = {
                row.id: (row.kind, row.body) for row in connection.execute(sa.select(PARTS))
            }
        for part_id, (_, body) in parts.items():
            if content_id(body) != part_id:
                raise StoreError(f"{self.name}: part {part_id} was changed or damaged: restore a copy")
        columns = (RECORDS.c.seq, RECORDS.c.id, *PART_COLUMNS, RECORDS.c.outcome, RECORDS.c.provenance)
        total = 0
        for page in self._pages(columns, 0, None, BATCH):
            for row in page:
                bodies = dict(parts[part_id] for part_id in row[2:6] if part_id in parts)
                whole = set(bodies) == set(PART_KINDS)
                if not whole or content_id(canonical_record(bodies, row.outcome, row.provenance)) != row.id:
                    raise StoreError(f"{self.name}: record {row.id} was changed or damaged: restore a copy")
            total += len(page)
        return total

    def _pages(
        self, columns: Sequence[sa.ColumnElement[Any]], cursor: int, where: Filter | None, batch: int
    ) -> Iterator[Sequence[Any]]:
        """Rows after the cursor up to the last one of now, in pages, each in a short transaction."""
        with self._database.read() as connection:
            end = connection.execute(sa.select(sa.func.max(RECORDS.c.seq))).scalar_one() or 0
        query = sa.select(*columns).where(*conditions(where)).order_by(RECORDS.c.seq).limit(batch)
        while cursor < end:
            page_query = query.where(RECORDS.c.seq > cursor, RECORDS.c.seq <= end)
            with self._database.read() as connection:
                page = connection.execute(page_query).all()
            if not page:
                return
            yield page
            cursor = page[-1].seq

    def _load_parts(self, rows: Sequence[Any]) -> None:
        self._decoder.make_room()
        wanted = {part for row in rows for part in (row.model_part, row.workload_part)}
        wanted |= {part for row in rows for part in (row.hardware_part, row.method_part)}
        missing = sorted(wanted - self._decoder.parts.keys())
        with self._database.read() as connection:
            for start in range(0, len(missing), LOOKUP):
                query = sa.select(PARTS).where(PARTS.c.id.in_(missing[start : start + LOOKUP]))
                for part_id, kind, body in connection.execute(query):
                    self._decoder.parts[part_id] = build_part(part_id, kind, body)
