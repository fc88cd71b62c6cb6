"""The suite on a SQLite file, and what only files can suffer: bad files, full disks, tampering."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metainf.domain import BadInput, StoreError
from metainf.store import Filter, open_store, tables
from metainf.testing.store_suite import StoreSuite, sample

NOBODY = 65534


class TestSqliteStore(StoreSuite):
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store.sqlite")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with five records, closed."""
    path = tmp_path / "store.sqlite"
    with open_store(path) as store:
        store.add(sample(i) for i in range(5))
    return path


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_folders_are_made_and_urls_mean_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "store.sqlite"
    with open_store(f"sqlite:///{path}") as store:
        store.add([sample(0)])
    with open_store(path, create=False) as store:
        assert store.count() == 1
        assert store.name == str(path)


def test_an_absent_store_is_not_made_without_leave(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        open_store(tmp_path / "none.sqlite", create=False)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(StoreError, match="create=True"):
        open_store(tmp_path / "empty.sqlite", create=False)
    with pytest.raises(StoreError, match="found a folder"):
        open_store(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["empty.sqlite"]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://user@host/db"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(BadInput, match="expected"):
        open_store(url)


def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are notes and no database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a database"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_foreign_database_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    change(path, "CREATE TABLE customers (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="customers"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_newer_store_is_refused(path: Path) -> None:
    change(path, "UPDATE metainf_schema SET version = 99")
    with pytest.raises(StoreError, match=r"version 99.*newer MetaInf"):
        open_store(path)


def test_an_older_store_is_migrated_once_and_keeps_its_records(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def second(connection: object) -> None:
        calls.append(2)

    monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, second))
    for _ in range(2):
        with open_store(path) as store:
            assert store.count() == 5
    assert calls == [2]
    monkeypatch.undo()
    with pytest.raises(StoreError, match="newer"):
        open_store(path)


def test_a_full_disk_stops_adding_and_leaves_the_store_whole(path: Path) -> None:
    store = open_store(path)
    tables.sa.event.listen(
        store._database.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count=60")
    )
    store._database.engine.dispose()
    safe: list[int] = []
    with pytest.raises(StoreError, match=r"full.*free some space"):
        store.add((sample(i, "big") for i in range(5000)), batch=20, on_commit=lambda a: safe.append(a.new))
    assert safe
    assert store.count(Filter(source="big")) == sum(safe)
    store.close()
    with open_store(path) as again:
        assert again.check() == 5 + sum(safe)
        assert again.add(sample(i, "big") for i in range(500)).known == min(500, sum(safe))


def test_a_file_size_limit_stops_adding_and_leaves_the_store_whole(path: Path) -> None:
    """In a child, for the limit cannot be lifted again by everyone."""
    program = """
import resource, sys
from metainf.domain import StoreError
from metainf.store import open_store
from metainf.testing.store_suite import sample
store, safe = open_store(sys.argv[1]), []
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    store.add((sample(i, "big") for i in range(5000)), batch=20, on_commit=lambda a: safe.append(a.new))
except StoreError as error:
    print(sum(safe), error)
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    safe, message = done.stdout.split(" ", 1)
    assert "could not write to the store" in message
    with open_store(path) as store:
        assert store.count(Filter(source="big")) == int(safe) > 0
        assert store.check() == 5 + int(safe)


@pytest.fixture
def as_nobody() -> Iterator[Callable[[Path], Path]]:
    """Copies a store into a folder where the process may only read."""
    folder = Path(tempfile.mkdtemp())
    was_root = os.geteuid() == 0

    def enter(path: Path) -> Path:
        copy = Path(shutil.copy(path, folder))
        copy.chmod(0o444)
        folder.chmod(0o555)
        if was_root:
            os.seteuid(NOBODY)
        return copy

    yield enter
    if was_root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_store_is_an_error_in_words(path: Path, as_nobody: Callable[[Path], Path]) -> None:
    copy = as_nobody(path)
    with pytest.raises(StoreError, match=r"(read-only|writable)"), open_store(copy) as store:
        store.add([sample(9)])
    with pytest.raises(StoreError, match="could not"):
        open_store(copy.parent / "deeper" / "store.sqlite")


def test_export_where_nothing_may_be_written(path: Path, as_nobody: Callable[[Path], Path]) -> None:
    with open_store(path) as store:
        first = next(store.query())
        folder = as_nobody(path).parent
        from metainf.store.files import write_records

        with pytest.raises(StoreError, match="could not export"):
            write_records(folder / "out.jsonl", [first])
    assert [p.suffix for p in folder.iterdir()] == [".sqlite"]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE metainf_records SET outcome = replace(outcome, '0.1', '0.2') WHERE seq = 3", "record"),
        ("UPDATE metainf_records SET model_part = 'b2:00' WHERE seq = 3", "record"),
        ("UPDATE metainf_parts SET body = replace(body, 'gpu-1', 'gpu-9')", "part"),
    ],
)
def test_check_finds_what_was_changed(path: Path, statement: str, what: str) -> None:
    with open_store(path) as store:
        assert store.check() == 5
    change(path, statement)
    with open_store(path) as store, pytest.raises(StoreError, match=f"{what} b2:.* changed or damaged"):
        store.check()


def test_damaged_rows_are_errors_that_name_the_record(path: Path) -> None:
    change(path, "UPDATE metainf_records SET outcome = '{\"kind\":' WHERE seq = 2")
    with open_store(path) as store:
        for read in (lambda: list(store.query()), lambda: list(store.rows())):
            with pytest.raises(StoreError, match=f"{sample(1).id} is damaged"):
                read()
