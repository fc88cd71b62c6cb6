"""The catalogue's data files, each read once and only when asked for."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

DATA = Path(__file__).parent / "data"
NOT_FACTS = ("aliases", "group")
"""Fields of a row that are about its name."""
Entry = TypeVar("Entry")


class Entries(Mapping[str, Entry]):
    """Entries of one data file by name; each is built when it is first asked for."""

    def __init__(self, kind: str, build: Callable[[dict[str, Any]], Entry]) -> None:
        self._rows = {row["name"]: row for row in table(kind)}
        self._build = build
        self._built: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._built:
            facts = {field: value for field, value in self._rows[name].items() if field not in NOT_FACTS}
            self._built[name] = self._build(facts)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, name: str) -> dict[str, Any]:
        """The data row of one entry, aliases (and a model's group) included."""
        return self._rows[name]


@cache
def table(kind: str) -> list[dict[str, Any]]:
    """Rows of one data file: models, devices, prices, quality or formats."""
    rows: list[dict[str, Any]] = json.loads((DATA / f"{kind}.json").read_bytes())["rows"]
    return rows


@cache
def about(kind: str) -> str:
    """What a data file says of itself."""
    text: str = json.loads((DATA / f"{kind}.json").read_bytes())["about"]
    return text
