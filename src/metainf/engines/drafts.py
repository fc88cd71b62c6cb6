"""Which models have a published EAGLE-3 draft or a native multi-token head."""

import tomllib
from functools import cache
from importlib import resources

from metainf.domain import Model


@cache
def _table() -> tuple[dict[str, str], tuple[str, ...]]:
    raw = tomllib.loads(resources.files("metainf.engines").joinpath("data/drafts.toml").read_text("utf-8"))
    drafts = {name.lower(): row["draft"] for row in raw["eagle3"] for name in row["models"]}
    heads = tuple(prefix.lower() for row in raw["mtp"] for prefix in row["prefixes"])
    return drafts, heads


def _short(model: Model) -> str:
    return model.name.rsplit("/", 1)[-1].lower()


def eagle3_draft(model: Model) -> str | None:
    """Repository of the EAGLE-3 draft published for this model, or None where none is known."""
    return _table()[0].get(_short(model))


def has_mtp_head(model: Model) -> bool:
    """True for families whose checkpoints carry a multi-token-prediction head."""
    return _short(model).startswith(_table()[1])
