"""Settings of all tests: no deadlines, and no question to the network."""

import sys

import pytest
from hypothesis import settings

from postgres_server import postgres_url, socket_folder

__all__ = ["postgres_url", "socket_folder"]

settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _shallow() -> None:
    """web3 raises Python's recursion limit so far that nested brackets overflow the stack of the process."""
    sys.setrecursionlimit(min(sys.getrecursionlimit(), 10_000))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAINF_OFFLINE", "1")
