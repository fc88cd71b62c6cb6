"""Records as rows and back: each part is written, checked and built once."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from metainf.domain import (
    BadInput,
    Failed,
    Frozen,
    Hardware,
    Measured,
    Method,
    Model,
    Outcome,
    Provenance,
    Record,
    Setting,
    StoreError,
    Workload,
    content_id,
)
from metainf.store.words import PartKind, check_key

PART_TYPES: dict[PartKind, type[Frozen]] = {
    "model": Model,
    "workload": Workload,
    "hardware": Hardware,
    "method": Method,
}
SEEN_LIMIT = 8192
"""Part objects remembered while writing; they are recognised by identity, which costs nothing."""
BUILT_LIMIT = 200_000
"""Part and setting objects kept while reading, before the memory is cleared."""


class Part(NamedTuple):
    id: str
    kind: PartKind
    body: str


class Entry(NamedTuple):
    """A record ready for the database: column values, and the parts that must stand beside it."""

    row: dict[str, Any]
    parts: tuple[Part, ...]


def canonical_record(parts: Mapping[PartKind, str], outcome: str, provenance: str) -> str:
    """`Record.canonical()` from the canonical texts of its pieces (keys in sorted order)."""
    return (
        f'{{"method":{parts["method"]},"outcome":{outcome},"provenance":{provenance},'
        f'"setting":{{"hardware":{parts["hardware"]},"model":{parts["model"]},'
        f'"workload":{parts["workload"]}}}}}'
    )


def written(value: Frozen) -> str:
    """Canonical JSON of a value that reads back equal. Raises BadInput, for NaN above all."""
    text = value.canonical()
    back = type(value).parse(text)
    if back != value:
        raise BadInput(f"{type(value).__name__} does not read back as it was written: {text:.200}")
    return text


def read_record(text: str | bytes) -> Record:
    """A record from its canonical JSON. Raises BadInput naming each wrong field."""
    return Record.parse(text)


class Encoder:
    """Turns records into entries."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Frozen, Part]] = {}

    def entry(self, record: Record) -> Entry:
        """Raises BadInput when a value is not what its schema says (NaN, for one)."""
        setting, provenance, outcome = record.setting, record.provenance, record.outcome
        parts = (
            self._part("model", setting.model),
            self._part("workload", setting.workload),
            self._part("hardware", setting.hardware),
            self._part("method", record.method),
        )
        bodies = {part.kind: part.body for part in parts}
        result, origin = written(outcome), written(provenance)
        keys = {
            "source": provenance.source,
            "campaign": provenance.campaign,
            "date": provenance.date,
            "engine": record.method.engine,
            "device": setting.hardware.device.name,
            "model": setting.model.name,
        }
        for name, value in keys.items():
            check_key(name, value)
        row = {
            "id": content_id(canonical_record(bodies, result, origin)),
            **{f"{part.kind}_part": part.id for part in parts},
            **keys,
            "status": outcome.kind,
            "failed_reason": outcome.reason if isinstance(outcome, Failed) else None,
            "outcome": result,
            "provenance": origin,
        }
        return Entry(row, parts)

    def _part(self, kind: PartKind, value: Frozen) -> Part:
        # The object is kept with its part, so its address cannot be given to another meanwhile.
        known = self._seen.get(id(value))
        if known is not None:
            return known[1]
        body = written(value)
        part = Part(content_id(body), kind, body)
        if len(self._seen) >= SEEN_LIMIT:
            self._seen.clear()
        self._seen[id(value)] = (value, part)
        return part


class Decoder:
    """Turns rows into records. `parts` must hold the objects of every part id that is asked for."""

    def __init__(self) -> None:
        self.parts: dict[str, Frozen] = {}
        self._settings: dict[tuple[str, str, str], Setting] = {}

    def make_room(self) -> None:
        """Forget everything when too much is remembered. Call between batches."""
        if len(self.parts) > BUILT_LIMIT or len(self._settings) > BUILT_LIMIT:
            self.parts.clear()
            self._settings.clear()

    def record(self, row: Any) -> Record:
        """Build one record. Raises StoreError when the row is damaged."""
        try:
            kind: type[Measured] | type[Failed] = Measured if row.status == "measured" else Failed
            outcome: Outcome = kind.model_validate_json(row.outcome)
            return Record(
                setting=self._setting(row.model_part, row.workload_part, row.hardware_part),
                method=self.parts[row.method_part],  # type: ignore[arg-type]
                outcome=outcome,
                provenance=Provenance.model_validate_json(row.provenance),
            )
        except (ValidationError, KeyError) as error:
            raise StoreError(f"record {row.id} is damaged in the store: {error}") from error

    def _setting(self, model: str, workload: str, hardware: str) -> Setting:
        key = (model, workload, hardware)
        found = self._settings.get(key)
        if found is None:
            found = Setting(
                model=self.parts[model],  # type: ignore[arg-type]
                workload=self.parts[workload],  # type: ignore[arg-type]
                hardware=self.parts[hardware],  # type: ignore[arg-type]
            )
            self._settings[key] = found
        return found


def build_part(part_id: str, kind: str, body: str) -> Frozen:
    """The object of one part. Raises StoreError when it is damaged."""
    try:
        part = PART_TYPES[kind].parse(body)  # type: ignore[index]
    except (BadInput, KeyError) as error:
        raise StoreError(f"part {part_id} is damaged in the store: {error}") from error
    return part


def read_json(row_id: str, text: str) -> dict[str, Any]:
    """A stored JSON object. Raises StoreError when it is damaged."""
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise StoreError(f"record {row_id} is damaged in the store: {error}") from error
    return value
