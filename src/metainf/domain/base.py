"""Frozen values: strict, without NaN, and named by their content."""

import hashlib
import json
import math
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from metainf.domain.errors import BadInput

HASH_TAG = "b2"


class Frozen(BaseModel):
    """An immutable value. Parse it from JSON text with `parse`, the one door for foreign data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no `None`. Defaults stay, so union tags survive."""
        return json.dumps(
            self.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":")
        )

    @property
    def id(self) -> str:
        """Content address: algorithm tag and 128-bit BLAKE2b of the canonical JSON."""
        return content_id(self.canonical())

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read one value from JSON text. Raises BadInput naming each wrong field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInput(f"not a valid {cls.__name__}: {describe(error)}") from None

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Build from plain Python data (lists for tuples allowed), through the same door."""
        wrong = not_finite(values)
        if wrong is not None:
            where, found = wrong
            raise BadInput(f"not a valid {cls.__name__}: {where}: expected a finite number, found {found}")
        try:
            return cls.parse(json.dumps(values, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise BadInput(f"not a valid {cls.__name__}: {error}") from None


def content_id(canonical: str) -> str:
    """Content address of a canonical JSON text."""
    return f"{HASH_TAG}:{hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()}"


def not_finite(value: Any, where: str = "") -> tuple[str, float] | None:
    """Place and value of the first NaN or infinity inside plain data, None where there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else (where, value)
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list | tuple):
        parts = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found = (not_finite(item, f"{where}.{key}" if where else str(key)) for key, item in parts)
    return next((each for each in found if each is not None), None)


def describe(error: ValidationError) -> str:
    """One line per wrong field: where, what was wrong, what was found."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "value"
        lines.append(f"{where}: {item['msg']} (found {item['input']!r:.80})")
    return "; ".join(lines[:8])
