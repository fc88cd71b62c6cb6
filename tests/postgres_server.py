"""A PostgreSQL server that the tests start themselves, where its programs are installed."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from metainf.testing.postgres import BINARIES as BINARIES
from metainf.testing.postgres import running, url_of

SCHEMAS = itertools.count()


@pytest.fixture(scope="module")
def socket_folder() -> Iterator[Path]:
    """A running server; it listens on a socket in this folder only."""
    pytest.importorskip("psycopg")
    with running() as folder:
        yield folder


@pytest.fixture
def postgres_url(socket_folder: Path) -> str:
    """An empty schema of its own on the server."""
    return url_of(socket_folder, f"store_{next(SCHEMAS)}")
