"""Where every endpoint stands: what the choice is made from, and what each attempt changes.

No socket, clock or randomness of its own; one thread touches it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from metainf.domain import UnknownName
from metainf.gateway.choosing import outlook, rank
from metainf.gateway.forecasts import Forecasts
from metainf.gateway.learning import begun, ended, probed
from metainf.gateway.wanted import Asked
from metainf.gateway.words import (
    Contender,
    Endpoint,
    Expected,
    Option,
    Ranking,
    Seen,
    Size,
    Standing,
    Wanted,
)

USUAL_OUTPUT_TOKENS = 256.0
LESSON = 0.05
"""What one answer's length counts towards the usual one of its model."""
HOUR_S = 3600.0
MILLION = 1e6


@dataclass
class Meter:
    """The time of a machine shared out among the requests that are in flight together: `share_s` is what one
    that was there all the time had of it."""

    share_s: float = 0.0
    at_s: float = 0.0

    def turn(self, in_flight: int, now_s: float) -> float:
        """The share until now, where so many were in flight since the last turn."""
        if in_flight:
            self.share_s += max(0.0, now_s - self.at_s) / in_flight
        self.at_s = now_s
        return self.share_s


@dataclass(frozen=True)
class Ticket:
    """An attempt that is under way: `in_flight` counts it too."""

    name: str
    expected: Expected
    in_flight: int
    share_s: float


@dataclass
class Board:
    """All endpoints. `chance` gives numbers of [0, 1)."""

    endpoints: tuple[Endpoint, ...]
    forecasts: Forecasts
    chance: Callable[[], float]
    explore: float = 0.0
    standings: dict[str, Standing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_name = {each.name: each for each in self.endpoints}
        self.standings = {name: Standing() for name in self.by_name} | self.standings
        self._meters = {name: Meter() for name in self.by_name}
        self._serving: dict[str, list[Endpoint]] = {}
        for each in self.endpoints:
            for name in {name.lower() for name in each.names}:
                self._serving.setdefault(name, []).append(each)
        self._usual: dict[str, float] = {}

    def serving(self, model: str) -> list[Endpoint]:
        """Endpoints that serve a model. UnknownName with near misses for one that none serves."""
        found = self._serving.get(model.lower())
        if found is None:
            raise UnknownName("served model", model, [each.model.name for each in self.endpoints])
        return found

    def size(self, asked: Asked) -> Size:
        """About how many tokens come in and go out: as many as usual, where fewer than the request allows."""
        usual = self._usual.get(self.serving(asked.model)[0].model.name)
        if usual is None:
            usual = USUAL_OUTPUT_TOKENS if asked.most_tokens is None else asked.most_tokens
        return Size(asked.input_tokens, min(usual, asked.most_tokens or usual))

    def rank(self, model: str, size: Size, wanted: Wanted, now_s: float) -> Ranking:
        """The endpoints for a request, best first."""
        contenders = [self._contender(each, size) for each in self.serving(model)]
        return rank(contenders, size, wanted, now_s, self.chance, self.explore)

    def outlook(self, name: str, size: Size, now_s: float) -> Option:
        """What is expected of one endpoint now."""
        return outlook(self._contender(self.by_name[name], size), size, Wanted(), now_s)

    def begin(self, name: str, size: Size, now_s: float) -> Ticket:
        """An attempt begins."""
        standing = self.standings[name]
        share_s = self._meters[name].turn(standing.in_flight, now_s)
        expected = self.forecasts.expected(name, size, standing.in_flight + 1)
        self.standings[name] = begun(standing, now_s)
        return Ticket(name, expected, standing.in_flight + 1, share_s)

    def end(self, ticket: Ticket, seen: Seen, now_s: float) -> float:
        """An attempt is over. Returns the seconds of the machine that were its own."""
        standing = self.standings[ticket.name]
        share_s = self._meters[ticket.name].turn(standing.in_flight, now_s) - ticket.share_s
        self.standings[ticket.name] = ended(standing, seen, now_s)
        if seen.result == "ok" and seen.output_tokens:
            model = self.by_name[ticket.name].model.name
            usual = self._usual.get(model, float(seen.output_tokens))
            self._usual[model] = usual + LESSON * (seen.output_tokens - usual)
        return share_s

    def probed(self, name: str, up: bool, now_s: float) -> None:
        """A probe of an endpoint came back."""
        self.standings[name] = probed(self.standings[name], up, now_s)

    def usd(self, name: str, size: Size, share_s: float) -> float | None:
        """What an answer cost: by its tokens, else by its share of the machine's time."""
        price = self.by_name[name]
        if price.usd_per_million_output_tokens is not None:
            read = (price.usd_per_million_input_tokens or 0.0) * size.input_tokens
            return (read + price.usd_per_million_output_tokens * size.output_tokens) / MILLION
        return None if price.usd_per_hour is None else price.usd_per_hour / HOUR_S * share_s

    def _contender(self, endpoint: Endpoint, size: Size) -> Contender:
        standing = self.standings[endpoint.name]
        expected = self.forecasts.expected(endpoint.name, size, standing.in_flight + 1)
        return Contender(endpoint, standing, expected)
