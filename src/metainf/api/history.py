"""The store of measured runs: import, list."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf import catalog
from metainf.api.catalogue import model
from metainf.domain import BadInput, Record, Rejected, UnknownName

if TYPE_CHECKING:
    from metainf.store import Added, Store

Tell = Callable[[int], None]
STEP = 500
"""Rows between two words to `tell`."""


@dataclass
class Imported:
    """What became of one file's rows."""

    path: str
    format: str
    read: int = 0
    new: int = 0
    known: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def store(url: str | None = None, create: bool = True) -> "Store":
    """The store at a file or URL; by default records.sqlite in the user's data folder."""
    from metainf.store import open_store

    if url is None:
        from platformdirs import user_data_path

        return open_store(user_data_path("metainf") / "records.sqlite", create=create)
    return open_store(url, create=create)


def import_file(
    path: Path,
    format: str | None,
    said: dict[str, str],
    into: "Store | None",
    offline: bool = False,
    tell: Tell = lambda _: None,
    result: Imported | None = None,
) -> Imported:
    """Read a result file into a store (None: only look). Rows that were acknowledged stay, whatever comes.

    `said` are facts that the file lacks (model, hardware, engine); `tell` hears how many more rows are read.
    `result` is filled on the way where it is given: `new` and `known` count what is on disk by then.
    """
    from metainf import importers

    known_facts(said)
    given: dict[str, Any] = dict(said)
    if "model" in said:
        given["model"] = model(said["model"], offline)
    if "hardware" in said:
        catalog.parse_hardware(said["hardware"])
    name = format or importers.detect(path)
    result, reasons = result or Imported(str(path), name), Counter[str]()
    result.format = name

    def good() -> Iterator[Record]:
        for item in importers.read(path, name, importers.Context(**given)):
            result.read += 1
            if result.read % STEP == 0:
                tell(STEP)
            if isinstance(item, Rejected):
                reasons[item.reason] += 1
            else:
                yield item

    if into is None:
        result.new = sum(1 for _ in good())
    else:

        def kept(added: "Added") -> None:
            result.new, result.known = result.new + added.new, result.known + added.known

        into.add(good(), kept)
    result.rejected, result.reasons = sum(reasons.values()), dict(reasons.most_common())
    return result


def known_facts(said: dict[str, str]) -> None:
    """Refuse empty facts, and an engine that is nearly a known one (a slip of the hand)."""
    from difflib import get_close_matches

    from metainf.engines import ENGINES

    empty = sorted(name for name, value in said.items() if not value.strip())
    if empty:
        raise BadInput(f"--{empty[0]}: expected a value, found an empty text")
    engine = said.get("engine")
    if engine is not None and engine not in ENGINES and get_close_matches(engine, ENGINES, cutoff=0.75):
        raise UnknownName("engine", engine, ENGINES)


def export(opened: "Store", path: Path, tell: Tell = lambda _: None) -> int:
    """Write all records of a store to a .parquet or .jsonl file; `tell` hears how many more are written."""
    from metainf.store.files import write_records

    def told() -> Iterator[Record]:
        for place, record in enumerate(opened.query(), 1):
            if place % STEP == 0:
                tell(STEP)
            yield record

    return write_records(path, told())


def sources(url: str | None = None) -> list[dict[str, Any]]:
    """What a store holds, by source."""
    from dataclasses import fields

    with store(url, create=False) as opened:
        return [{f.name: getattr(row, f.name) for f in fields(row)} for row in opened.sources()]
