"""How answers look on a terminal. Tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel


def print_json(value: Any) -> None:
    """Print domain values, or containers of them, as JSON."""
    print(json.dumps(plain(value), indent=2, sort_keys=False, allow_nan=False))


def plain(value: Any) -> Any:
    """Domain values as plain data."""
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """A table; numbers to the right with three significant digits, unknown as a dash."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(*head, box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    kept = list(rows)
    for row in kept:
        drawn.add_row(*[cell(item) for item in row])
    for place, column in enumerate(drawn.columns):
        numbers = all(isinstance(row[place], (int, float, type(None))) for row in kept)
        column.justify = "right" if numbers else "left"
        column.overflow = "fold"
    console().print(drawn if kept else "nothing to show")


def cell(item: object) -> str:
    """One value as text."""
    if item is None:
        return "–"
    if isinstance(item, float):
        return f"{item:,.0f}" if abs(item) >= 1000 else f"{item:.3g}"
    return str(item)


def fields(value: "BaseModel") -> None:
    """Known fields of a value, one a line."""
    for name, item in plain(value).items():
        print(f"{name:28} {cell(item) if not isinstance(item, dict) else json.dumps(item)}")


def console() -> Any:
    """The terminal, wide enough for a table when it is a pipe."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
