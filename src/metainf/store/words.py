"""What is asked of a store and what it answers, free of any database."""

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from metainf.domain import BadInput

PartKind = Literal["model", "workload", "hardware", "method"]
PART_KINDS: tuple[PartKind, ...] = ("model", "workload", "hardware", "method")
ISO_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2}(T[0-9:.Z+-]+)?)?)?")
STATUSES = ("measured", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records are meant; every field that is set must match exactly.

    `model`, `engine` and `device` are names as the records hold them; `workload`, `hardware` and `method`
    are ids of parts. `since` and `until` are ISO
    dates (2025, 2025-03 or 2025-03-15), both inclusive; a bound leaves out records without a date.
    Raises BadInput for an unknown status or a malformed date.
    """

    source: str | None = None
    model: str | None = None
    engine: str | None = None
    device: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None
    campaign: str | None = None
    workload: str | None = None
    hardware: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.status not in (None, *STATUSES):
            raise BadInput(f"status must be one of {', '.join(STATUSES)}, found {self.status!r}")
        for name, value in (("since", self.since), ("until", self.until)):
            if value is not None and not ISO_DATE.fullmatch(value):
                raise BadInput(f"{name} must be an ISO date such as 2025-03-15, found {value!r}")
        for name in self.__slots__:
            check_key(name, getattr(self, name))


def check_key(name: str, value: str | None) -> None:
    """Refuse text that a database column cannot hold. Raises BadInput."""
    if value is not None and "\x00" in value:
        raise BadInput(f"{name} must not hold a NUL character, found {value!r:.80}")


@dataclass(frozen=True, slots=True)
class Added:
    """How many records of an addition were new, and how many the store (or the batch) had already."""

    new: int
    known: int

    def __add__(self, other: "Added") -> "Added":
        return Added(self.new + other.new, self.known + other.known)


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """One line of the table of sources. Dates are the earliest and latest named, or None."""

    source: str
    records: int
    failed: int
    models: int
    devices: int
    first_date: str | None
    last_date: str | None


class Row(NamedTuple):
    """A record without its parts built: part ids and plain dictionaries, for bulk training."""

    seq: int
    id: str
    model: str
    workload: str
    hardware: str
    method: str
    outcome: dict[str, Any]
    provenance: dict[str, Any]
