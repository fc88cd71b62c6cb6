"""The suite on a SQLite file."""

from pathlib import Path

import pytest

from metainf.testing.store_suite import StoreSuite


class TestSqliteStore(StoreSuite):
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store.sqlite")
