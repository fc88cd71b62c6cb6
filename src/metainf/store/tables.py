"""Tables of the store, its numbered migrations, and filters as SQL conditions."""

from collections.abc import Callable

import sqlalchemy as sa

from metainf.domain import StoreError
from metainf.store.words import Filter

METADATA = sa.MetaData()
# Byte order, so that dates and names compare alike on every database and locale.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SCHEMA = sa.Table("metainf_schema", METADATA, sa.Column("version", sa.Integer, nullable=False))

PARTS = sa.Table(
    "metainf_parts",
    METADATA,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

RECORDS = sa.Table(
    "metainf_records",
    METADATA,
    sa.Column("seq", SEQ, primary_key=True, autoincrement=True),
    sa.Column("id", TEXT, nullable=False, unique=True),
    sa.Column("model_part", TEXT, nullable=False),
    sa.Column("workload_part", TEXT, nullable=False),
    sa.Column("hardware_part", TEXT, nullable=False),
    sa.Column("method_part", TEXT, nullable=False),
    sa.Column("source", TEXT, nullable=False),
    sa.Column("campaign", TEXT),
    sa.Column("date", TEXT),
    sa.Column("status", TEXT, nullable=False),
    sa.Column("failed_reason", TEXT),
    sa.Column("engine", TEXT, nullable=False),
    sa.Column("device", TEXT, nullable=False),
    sa.Column("model", TEXT, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("provenance", sa.Text, nullable=False),
    sa.Index("metainf_records_source", "source", "seq"),
    sa.Index("metainf_records_model", "model", "seq"),
    sa.Index("metainf_records_device", "device", "seq"),
    sqlite_autoincrement=True,
)


def _create(connection: sa.Connection) -> None:
    METADATA.create_all(connection)
    connection.execute(sa.insert(SCHEMA).values(version=0))


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_create,)
"""Step i brings a store from version i to i + 1. Steps are only ever appended."""


def stored_version(connection: sa.Connection) -> int | None:
    """Version of the store behind a connection; None for an empty database.

    Raises StoreError when the database holds something else.
    """
    names = set(sa.inspect(connection).get_table_names())
    ours = {table.name for table in METADATA.sorted_tables}
    if SCHEMA.name in names:
        versions: list[int] = list(connection.scalars(sa.select(SCHEMA.c.version)))
        if len(versions) != 1:
            raise StoreError(f"expected one row in {SCHEMA.name}, found {len(versions)}: not a whole store")
        return versions[0]
    # A PostgreSQL database may well hold other people's tables; a SQLite file is all ours or not ours.
    foreign = names if connection.dialect.name == "sqlite" else names & ours
    if foreign:
        found = ", ".join(sorted(foreign)[:4])
        raise StoreError(f"expected a MetaInf record store, found a database with tables {found}")
    return None


def migrate(connection: sa.Connection) -> None:
    """Bring the store to the version of this MetaInf, inside the caller's write transaction."""
    version = stored_version(connection) or 0
    check_version(version)
    for step in MIGRATIONS[version:]:
        step(connection)
    if version < len(MIGRATIONS):
        connection.execute(sa.update(SCHEMA).values(version=len(MIGRATIONS)))


def check_version(version: int) -> None:
    """Raises StoreError when a newer MetaInf made the store."""
    if version > len(MIGRATIONS):
        raise StoreError(
            f"this store has schema version {version}, made by a newer MetaInf; this one knows up to "
            f"version {len(MIGRATIONS)}: upgrade MetaInf, or export the store with the newer one"
        )


def is_old(version: int) -> bool:
    """Whether a migration is due."""
    return version < len(MIGRATIONS)


def conditions(where: Filter | None) -> list[sa.ColumnElement[bool]]:
    """A filter as SQL conditions on RECORDS."""
    if where is None:
        return []
    column = RECORDS.c
    exact = ("source", "model", "engine", "device", "status", "campaign")
    found = [column[name] == value for name in exact if (value := getattr(where, name)) is not None]
    parts = ("workload", "hardware", "method")
    found += [
        column[f"{name}_part"] == value for name in parts if (value := getattr(where, name)) is not None
    ]
    if where.since is not None:
        found.append(column.date >= where.since)
    if where.until is not None:
        # "~" sorts after digits, "-" and "T": 2025-03 takes in all of March, a day all its hours.
        found.append(column.date <= where.until + "~")
    return found
