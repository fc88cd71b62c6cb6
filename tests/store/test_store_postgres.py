"""The suite on a PostgreSQL server that the tests start themselves."""

from pathlib import Path

import pytest

from metainf.domain import StoreError
from metainf.store import open_store
from metainf.testing.store_suite import StoreSuite, sample
from postgres_server import BINARIES

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not BINARIES, reason="no PostgreSQL server under /usr/lib/postgresql: apt install it"),
]


class TestPostgresStore(StoreSuite):
    @pytest.fixture
    def store_url(self, postgres_url: str) -> str:
        return postgres_url


def test_a_server_that_only_reads_is_named(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        store.add([sample(0)])
    only_reads = postgres_url + "%20-cdefault_transaction_read_only%3Don"
    with open_store(only_reads, create=False) as store:
        with pytest.raises(StoreError, match=r"read-only transaction.*only reads"):
            store.add([sample(1)])
        assert list(store.query()) == [sample(0)]


def test_a_newer_or_absent_store_is_refused(postgres_url: str) -> None:
    import psycopg

    with pytest.raises(StoreError, match="create=True"):
        open_store(postgres_url, create=False)
    open_store(postgres_url).close()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE metainf_schema SET version = 99")
    with pytest.raises(StoreError, match="newer MetaInf"):
        open_store(postgres_url)


def test_a_server_that_is_not_there_is_an_error_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not read the store") as caught:
        open_store(f"postgresql://user:secret@/db?host={tmp_path}")
    assert "secret" not in str(caught.value)
