"""Whose price an hour of a device has: on-demand prices by provider, with date and source."""

from functools import cache

from pydantic import PositiveFloat

from metainf.catalog.tables import table
from metainf.domain import Frozen


class Quote(Frozen):
    """US dollars per device and hour that a provider asked on a day."""

    device: str
    provider: str
    usd_per_device_hour: PositiveFloat
    date: str
    source: str


@cache
def _by_device() -> dict[str, tuple[Quote, ...]]:
    found: dict[str, list[Quote]] = {}
    for row in table("quotes"):
        found.setdefault(row["device"], []).append(Quote.of(row))
    return {name: tuple(quotes) for name, quotes in found.items()}


def quotes(device_name: str) -> tuple[Quote, ...]:
    """What providers ask for a device of the catalogue, none where nobody's price is known."""
    return _by_device().get(device_name, ())


@cache
def providers() -> tuple[str, ...]:
    """Every provider whose prices are known."""
    return tuple(sorted({quote.provider for quotes in _by_device().values() for quote in quotes}))
