"""The catalogue's data files, each read once and only when asked for."""

import json
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


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
