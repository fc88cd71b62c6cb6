"""How much of its score a model keeps under a number format or a cache, as published measurements show."""

from functools import cache
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from metainf.catalog.formats import canonical_format
from metainf.catalog.models import lookup, model_group, models
from metainf.catalog.tables import table
from metainf.domain import Frozen

LOSSLESS = ("bf16", "fp16", "fp32", "tf32")
SAME_ARITHMETIC = {"int8wo": "int8-weight-only"}


class QualityDelta(Frozen):
    """Share of the unquantized score that is kept: mean and lowest of `n` measured scores (1 = all kept).

    `group` is the architecture when the figure is of that architecture alone, None when of all models.
    """

    format: str
    mean: NonNegativeFloat = Field(le=1)
    low: NonNegativeFloat = Field(le=1)
    n: PositiveInt
    source: str
    group: str | None = None


@cache
def _rows() -> dict[tuple[str, str, str | None], dict[str, Any]]:
    return {(row["domain"], row["format"], row.get("group")): row for row in table("quality")}


def quality(number_format: str, model: str | None = None) -> QualityDelta | None:
    """Recovery of a format, on the model's own architecture where measured, else over all models.

    16- and 32-bit formats are the reference and give 1 by definition. Language models answer for
    language models only, image models for image models only; None where nothing was measured.
    """
    name = canonical_format(number_format) or number_format.lower()
    if name in LOSSLESS:
        return QualityDelta(format=name, mean=1.0, low=1.0, n=1, source="reference by definition")
    group = None if model is None else model_group(model)
    domain = _domain(model)
    for wanted in (name, number_format.lower(), SAME_ARITHMETIC.get(name, name)):
        row = _rows().get((domain, wanted, group)) or _rows().get((domain, wanted, None))
        if row:
            keep = ("format", "mean", "low", "n", "source", "group")
            return QualityDelta.of({k: row[k] for k in keep if k in row})
    return None


def _domain(model: str | None) -> str:
    found = None if model is None else lookup(model)
    return "image" if found and models().row(found[0])["modality"] in ("image", "video") else "text"
