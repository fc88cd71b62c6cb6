"""What an hour of a device costs, with date and source. Prices age: show the date with the figure."""

from functools import cache

from pydantic import PositiveFloat, PositiveInt

from metainf.catalog.devices import find_device
from metainf.catalog.tables import table
from metainf.domain import Frozen


class Price(Frozen):
    """US dollars per device and hour: median, lowest and highest of `offers` offers of one day."""

    device: str
    tier: str
    usd_per_device_hour: PositiveFloat
    low: PositiveFloat
    high: PositiveFloat
    offers: PositiveInt
    date: str
    source: str


@cache
def prices() -> tuple[Price, ...]:
    """Every price of the catalogue, newest first."""
    return tuple(sorted((Price.of(row) for row in table("prices")), key=lambda p: p.date, reverse=True))


@cache
def _newest() -> dict[tuple[str, str], Price]:
    return {(price.device, price.tier): price for price in reversed(prices())}


def price(device_name: str, tier: str = "on-demand") -> Price | None:
    """Newest price of a device in a tier (`tiers` lists them), None where nobody published one.

    Raises UnknownName for a device that the catalogue does not know.
    """
    return _newest().get((find_device(device_name).name, tier))


def tiers(device_name: str) -> list[str]:
    """Price tiers known for a device: on-demand, spot, marketplace, hyperscaler, tco-neocloud ..."""
    name = find_device(device_name).name
    return sorted(tier for device, tier in _newest() if device == name)
