"""How answers look on a terminal. Tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

READABLE = 36
"""Columns below which folded text is hard to read."""


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


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None, below: str | None = None
) -> None:
    """A table; numbers to the right with three significant digits, unknown as a dash.

    Where the terminal is too narrow for it, the column `below` moves under its row.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*head, box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    kept = list(rows)
    for row in kept:
        drawn.add_row(*[Text(cell(item)) for item in row])
    for place, column in enumerate(drawn.columns):
        numbers = all(isinstance(row[place], (int, float, type(None))) for row in kept)
        column.justify = "right" if numbers else "left"
        column.overflow = "fold"
    out = console()
    if below is not None and kept and _width(head, kept, below) > out.width:
        _stacked(head, kept, head.index(below))
        return
    out.print(drawn if kept else "nothing to show")


def _width(head: Sequence[str], rows: Sequence[Sequence[object]], below: str) -> int:
    """Columns that a table needs when the text of one column may be folded to READABLE."""
    widths = [max(len(cell(row[place])) for row in (head, *rows)) for place in range(len(head))]
    widths[head.index(below)] = min(widths[head.index(below)], READABLE)
    return sum(widths) + 3 * len(head)


def _stacked(head: Sequence[str], rows: Sequence[Sequence[object]], below: int) -> None:
    """Each row on its own: its first value and the long one, then `name value` pairs."""
    from rich.padding import Padding

    out = console()
    for row in rows:
        others = [place for place in range(1, len(head)) if place != below]
        out.print(cell(row[0]), markup=False)
        for text in (cell(row[below]), " · ".join(f"{head[place]} {cell(row[place])}" for place in others)):
            out.print(Padding(text, (0, 0, 0, 3), expand=False), markup=False)


def cell(item: object) -> str:
    """One value as text."""
    if item is None:
        return "–"
    if isinstance(item, float):
        return f"{item:,.0f}" if 1000 <= abs(item) < 1e9 else f"{item:.3g}"
    return str(item)


def fields(value: "BaseModel") -> None:
    """Known fields of a value, one a line."""
    for name, item in plain(value).items():
        print(f"{name:28} {cell(item) if not isinstance(item, dict) else json.dumps(item)}")


def console() -> Any:
    """The terminal as wide as it is (or as COLUMNS says); a pipe as wide as the widest table wants."""
    import os
    import sys

    from rich.console import Console

    told = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if told else 160, highlight=False)
