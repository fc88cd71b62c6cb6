"""The words of the gateway: endpoints, what a caller wants, what is expected and what was seen of each."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from metainf.domain import Hardware, Method, Model

Aim = Literal["cost", "latency", "ttft", "tpot"]
AIMS: tuple[Aim, ...] = ("cost", "latency", "ttft", "tpot")
Result = Literal["ok", "failed", "busy", "refused", "left"]
"""How an attempt ended: answered; broken; told to wait (429); the request was wrong; the caller left."""
LEAST_TOKENS, MOST_TOKENS, MOST_IN_FLIGHT = 16, 131_072, 256


@dataclass(frozen=True)
class Endpoint:
    """A server that is registered. `url` is without /v1; `served_as` is what it calls the model itself.

    `names` are those that callers may ask for. Without `hardware` and `method` nothing is forecast and what
    is seen is all that is known. Prices in US dollars; `api_key_env` names the variable with its key.
    """

    name: str
    url: str
    model: Model
    served_as: str
    names: tuple[str, ...]
    hardware: Hardware | None = None
    method: Method | None = None
    usd_per_hour: float | None = None
    usd_per_million_input_tokens: float | None = None
    usd_per_million_output_tokens: float | None = None
    api_key_env: str | None = None
    usage: bool = True


@dataclass(frozen=True)
class Wanted:
    """A caller's limits: seconds and US dollars, None for none. `strict` refuses rather than misses one of
    time; one of money is never passed. `confidence` is the chance with which limits must be met."""

    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    max_e2e_s: float | None = None
    max_usd: float | None = None
    aim: Aim | None = None
    strict: bool = False
    deadline_s: float | None = None
    confidence: float = 0.5

    @property
    def timed(self) -> bool:
        """Whether any latency is limited."""
        return (self.max_ttft_s, self.max_tpot_s, self.max_e2e_s) != (None, None, None)


class Size(NamedTuple):
    """What one request brings: tokens, as far as they can be told before it is answered."""

    input_tokens: float
    output_tokens: float


class Kind(NamedTuple):
    """A kind of question: powers of two of the tokens in, the tokens out and the requests in flight."""

    input_tokens: int
    output_tokens: int
    in_flight: int


def kind_of(size: Size, in_flight: int) -> Kind:
    """The kind that a request is of, at an endpoint with so many in flight, itself included."""
    return Kind(
        _power(size.input_tokens, LEAST_TOKENS, MOST_TOKENS),
        _power(size.output_tokens, LEAST_TOKENS, MOST_TOKENS),
        _power(in_flight, 1, MOST_IN_FLIGHT),
    )


def _power(value: float, least: int, most: int) -> int:
    """The nearest power of two, by ratio."""
    inside = min(max(value, least), most)
    return int(2 ** round(math.log2(inside)))


class Spread(NamedTuple):
    """A lognormal number: the log of its median, and the standard deviation of its log."""

    log_median: float
    log_scale: float


class Expected(NamedTuple):
    """What is expected at an endpoint for a kind of question: seconds, and tokens per second of all requests
    together. `forecast` tells whether a predictor said so."""

    ttft: Spread
    tpot: Spread
    tokens_per_s: float | None = None
    forecast: bool = True


UNKNOWN = Expected(Spread(math.log(0.5), 1.5), Spread(math.log(0.03), 1.5), None, False)
"""Of an endpoint that nothing is forecast for: a wide guess, which the first answers replace."""


@dataclass(frozen=True)
class Seen:
    """How one attempt at an endpoint ended. Seconds from its start; `expected` is what was held likely then.

    `tpot_s` counts where at least two tokens came one by one, `e2e_s` where the answer is whole. `wait_s` is
    what a busy endpoint asked for.
    """

    result: Result
    expected: Expected = UNKNOWN
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    output_tokens: int | None = None
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Lately:
    """Logs of seen over expected, older ones counting less: their mean and square mean, weight and time."""

    mean: float = 0.0
    square: float = 0.0
    weight: float = 0.0
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an endpoint now. `good` and `bad` are answers, older ones counting less, as of `at_s`.

    `broken` counts failures in a row. It is not asked before `closed_until_s`; after that one request tries
    it (`trying`). `up` is what the last probes said.
    """

    in_flight: int = 0
    ttft: Lately = field(default_factory=Lately)
    tpot: Lately = field(default_factory=Lately)
    good: float = 0.0
    bad: float = 0.0
    at_s: float = 0.0
    broken: int = 0
    cooling_s: float = 0.0
    closed_until_s: float = 0.0
    trying: bool = False
    up: bool = True


@dataclass(frozen=True)
class Contender:
    """An endpoint with its standing and with what is forecast of it for the request at hand."""

    endpoint: Endpoint
    standing: Standing
    expected: Expected


class Option(NamedTuple):
    """A place in a ranking. `p_meets`: chance that every limit is met; medians in seconds; US dollars."""

    name: str
    p_meets: float
    ttft_s: float
    tpot_s: float
    e2e_s: float
    usd: float | None
    slow_ttft_s: float


@dataclass(frozen=True)
class Ranking:
    """Endpoints in the order in which to try them, and why the others are left out. `wait_s` is how long
    until one that is closed may be asked, where none is open."""

    options: tuple[Option, ...]
    left_out: dict[str, str]
    wait_s: float | None = None
