"""Forecasts by endpoint and kind of question. What is not known yet is answered from the nearest kind, and
noted, so that it can be worked out off the request's path."""

import math

from metainf.gateway.words import UNKNOWN, Endpoint, Expected, Kind, Size, kind_of

FIRST_LOADS = (1, 4, 16, 64)
FIRST_SIZES = (Size(128, 128), Size(1024, 256))
"""Kinds that are worked out before the first request comes."""
MOST_KINDS = 4096


class Forecasts:
    """What is expected of each endpoint. Not a predictor: it holds what one said."""

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._known: dict[str, dict[Kind, Expected]] = {each.name: {} for each in endpoints}
        self._near: dict[tuple[str, Kind], Expected] = {}
        self._worked_out: set[Kind] = set()
        self.missing: set[Kind] = set()
        """Kinds that were asked for and are not worked out."""

    def expected(self, name: str, size: Size, in_flight: int) -> Expected:
        """What is expected of an endpoint with so many requests in flight, this one included."""
        kind = kind_of(size, in_flight)
        found = self._known[name].get(kind)
        if found is not None:
            return found
        if kind not in self._worked_out and len(self._worked_out) < MOST_KINDS:
            self.missing.add(kind)
        kept = self._near.get((name, kind))
        if kept is None:
            kept = self._near[name, kind] = self._nearest(name, kind)
        return kept

    def learn(self, kind: Kind, said: dict[str, Expected]) -> None:
        """A kind was worked out; endpoints that nothing can be said of are absent."""
        self.missing.discard(kind)
        self._worked_out.add(kind)
        for name, expected in said.items():
            self._known[name][kind] = expected
        self._near.clear()

    def _nearest(self, name: str, kind: Kind) -> Expected:
        known = self._known[name]
        return known[min(known, key=lambda other: _apart(kind, other))] if known else UNKNOWN


def first_kinds() -> list[Kind]:
    """What to work out first."""
    return [kind_of(size, load) for size in FIRST_SIZES for load in FIRST_LOADS]


def _apart(one: Kind, other: Kind) -> float:
    return sum(abs(math.log2(a / b)) for a, b in zip(one, other, strict=True))
