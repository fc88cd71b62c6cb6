"""Bits that a number format spends on a weight and on an activation."""

import re
from functools import cache, lru_cache
from typing import Any

from metainf.catalog.tables import table

UNSLOTH = re.compile(r"^(?:ud-|i1-)+")
EXTRA_LARGE = re.compile(r"_xl$")


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return {
        _plain(alias): row for row in table("formats") for alias in (row["name"], *row.get("aliases", ()))
    }


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


@lru_cache(maxsize=1024)
def canonical_format(name: str) -> str | None:
    """Catalogue name of a number format as engines, files and people write it, None if unknown.

    `FP8 Static`, `GGUF (Q4_K_M)`, `i1-Q4_K_M` and `gptq-marlin (int4)` are all understood; `Q4_K_XL`
    (a mix without one definition) counts as the `_M` or plain mix of its bits.
    """
    text = name.lower().strip()
    inner = re.fullmatch(r"gguf\s*\(?([\w-]+)\)?", text)
    text = UNSLOTH.sub("", inner[1] if inner else text)
    for guess in (text, EXTRA_LARGE.sub("_m", text), EXTRA_LARGE.sub("", text), text.removeprefix("gguf-")):
        if row := _rows().get(_plain(guess)):
            return str(row["name"])
    return None


def weight_bits(number_format: str) -> float | None:
    """Stored bits per weight, scales included (fp8 8, awq 4.25, Q4_K_M 4.85); None for an unknown format."""
    name = canonical_format(number_format)
    return None if name is None else float(_rows()[_plain(name)]["weight_bits"])


def activation_bits(number_format: str) -> float | None:
    """Bits of an activation in the arithmetic (fp8 8, awq 16); None for an unknown format."""
    name = canonical_format(number_format)
    return None if name is None else float(_rows()[_plain(name)]["activation_bits"])
