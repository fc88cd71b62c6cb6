"""The record store: append-only, content-addressed, in a SQLite file or a PostgreSQL database."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf.store.words import PART_KINDS, Added, Filter, PartKind, Row, SourceSummary

if TYPE_CHECKING:
    from metainf.store.store import Store

__all__ = ["PART_KINDS", "Added", "Filter", "PartKind", "Row", "SourceSummary", "Store", "open_store"]


def open_store(url: str | Path, create: bool = True) -> "Store":
    """Open the store at a file path (SQLite) or a `postgresql://` or `sqlite:///path` URL.

    With `create`, an absent store (and its folder) is made; an older one is migrated. Raises
    StoreError when the store is absent (`create=False`), foreign, damaged, or of a newer MetaInf;
    BadInput for a URL of another database; MissingExtra when PostgreSQL support is not installed.
    """
    from metainf.store.database import Database
    from metainf.store.store import Store

    return Store(Database.connect(url, create=create))


def __getattr__(name: str) -> Any:
    if name == "Store":
        from metainf.store.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
