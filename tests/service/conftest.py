"""One service for the tests that leave it as they found it."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from service_process import Served

    from metainf.client import Client

if find_spec("fastapi") is None or find_spec("httpx2") is None:
    collect_ignore_glob = ["test_*.py"]  # they need the extras serve and client


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Served]":
    """A service without keys or limits, over a store in a folder of its own."""
    from service_process import served

    folder: Path = tmp_path_factory.mktemp("service")
    with served(folder / "records.sqlite", "--rate", "none", log=folder / "log") as one:
        yield one


@pytest.fixture
def client(service: "Served") -> "Iterator[Client]":
    """A client of it."""
    from metainf.client import Client

    with Client(service.url) as one:
        yield one
