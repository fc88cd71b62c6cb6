"""The connection to SQLite or PostgreSQL: opening, transactions, and errors in words."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from metainf.domain import BadInput, MissingExtra, StoreError
from metainf.store.tables import check_version, is_old, migrate, stored_version

BUSY_S = 60.0
"""How long a SQLite writer waits for another one, in seconds."""
CACHE_KIB = 65536
ADVISORY_LOCK = 0x6D657461
ADVICE = {
    "database or disk is full": "free some space and add again; what was acknowledged is still there",
    "disk i/o error": "check the disk and its quota, then add again; what was acknowledged is still there",
    "readonly": "the file or its folder is read-only; make both writable or copy the store elsewhere",
    "unable to open": "check that the folder exists and is writable",
    "is locked": f"another process has been writing for over {BUSY_S:.0f} s; try again",
    "not a database": "expected a SQLite file made by MetaInf; give another path",
    "malformed": "the file is damaged; restore a copy, or merge an export into a new store",
    "no space left": "free some space on the server and add again; what was acknowledged is still there",
    "read-only transaction": "the PostgreSQL server or role only reads; connect with one that may write",
    "permission denied": "grant the rights on the schema, or connect as its owner",
    "connection": "check that the server runs and that the URL is right",
}


class Database:
    """An engine with its name for messages. `read` and `write` give one transaction each."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.engine, self.name = engine, name

    @classmethod
    def connect(cls, url: str | Path, create: bool) -> "Database":
        """Open and, with `create`, make or migrate. Raises as `open_store` says."""
        target = _target(url)
        database = _postgres(target) if isinstance(target, sa.URL) else _sqlite(target, create)
        try:
            database._prepare(create)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read transaction. Database errors come out as StoreError."""
        with self._guard("read"), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A read transaction whose queries all see the same moment (in SQLite every one does)."""
        with self._guard("read"), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction, one at a time over all processes, committed on leaving.

        Writers queue, so that sequence numbers become visible in rising order and a reader that
        follows them with a cursor misses none.
        """
        with self._guard("write to"), self.engine.connect() as plain:
            connection = plain.execution_options(metainf_write=True)
            with connection.begin():
                if not self.is_sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
                yield connection

    def close(self) -> None:
        self.engine.dispose()

    def _prepare(self, create: bool) -> None:
        with self.read() as connection:
            version = self._named(stored_version, connection)
        if version is None and not create:
            raise StoreError(f"{self.name} holds no MetaInf store yet: import something, or create=True")
        if version is not None:
            self._named(check_version, version)
        if self.is_sqlite:
            self._write_ahead()
        with self.read() as connection:
            current = self._named(stored_version, connection)
        if current is None or is_old(current):
            with self.write() as connection:
                self._named(migrate, connection)

    def _named(self, step: Any, argument: Any) -> Any:
        try:
            return step(argument)
        except StoreError as error:
            raise StoreError(f"{self.name}: {error}") from None

    def _write_ahead(self) -> None:
        """Switch the file to WAL once. The switch needs the file alone, and SQLite does not wait for it."""
        patience_s, pause_s = BUSY_S, 0.02
        with self._guard("open"), self.engine.connect() as plain:
            raw = plain.connection.driver_connection
            assert raw is not None
            while raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                try:
                    raw.execute("PRAGMA journal_mode=WAL")
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or patience_s <= 0:
                        raise
                    time.sleep(pause_s)
                    patience_s -= pause_s

    @contextmanager
    def _guard(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            cause = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
            advice = next((words for sign, words in ADVICE.items() if sign in cause.lower()), None)
            hint = f" ({advice})" if advice else ""
            raise StoreError(f"could not {doing} the store {self.name}: {cause}{hint}") from error


def _target(url: str | Path) -> sa.URL | Path:
    if isinstance(url, Path) or "://" not in url:
        return Path(url)
    try:
        parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1))
    except (sa.exc.ArgumentError, ValueError):
        raise BadInput(f"not a database URL: {url.split('://')[0]}://...") from None
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise BadInput("a store needs a file: expected sqlite:///path/to/file.sqlite")
        return Path(str(parsed.database))
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise BadInput(f"expected a file path, sqlite:/// or postgresql://, found {parsed.get_backend_name()}://")


def _postgres(url: sa.URL) -> Database:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise MissingExtra("a PostgreSQL store", "postgres") from None
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def _settings(connection: Any, _: object) -> None:
        connection.execute("SET jit = off")  # compiling takes longer than any question of ours
        connection.commit()

    return Database(engine, url.render_as_string(hide_password=True))


def _sqlite(path: Path, create: bool) -> Database:
    if not path.exists():
        if not create:
            raise StoreError(f"no store at {path}: check the path, or import something, or create=True")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"could not make the folder of the store {path}: {error}") from error
    elif not path.is_file():
        raise StoreError(f"expected a store file at {path}, found a folder or a special file")
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))

    @sa.event.listens_for(engine, "connect")
    def _settings(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions are begun by `_begin` alone
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("metainf_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return Database(engine, str(path))
