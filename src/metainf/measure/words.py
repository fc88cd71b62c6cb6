"""What is sent, what came back, and what the engine says that it did."""

from dataclasses import dataclass, field

from metainf.hosts.pictures import Sketch


@dataclass(frozen=True)
class Request:
    """One completion: a prompt, and the exact number of tokens to write. `at_s` is its arrival after the
    start, for open loops."""

    prompt: str
    output_tokens: int
    at_s: float | None = None


@dataclass(frozen=True)
class OpenLoop:
    """Requests leave at their `at_s`, whatever the engine does (Poisson arrivals, replayed traces)."""


@dataclass(frozen=True)
class ClosedLoop:
    """`concurrency` requests are kept in flight."""

    concurrency: int


@dataclass(frozen=True)
class Waves:
    """Static batches: `size` requests leave together, the next ones when all of them are done."""

    size: int


Pacing = OpenLoop | ClosedLoop | Waves


@dataclass(frozen=True)
class Traffic:
    """The requests of one run. `warming` are sent one by one before the clock starts (a warm prefix cache
    has seen the shared prefixes); `reference` prompts are asked greedily for the quality figure. Of `private`
    traffic (a trace, which may hold what people wrote) records keep the lengths and no text."""

    name: str
    requests: tuple[Request, ...]
    pacing: Pacing
    warming: tuple[Request, ...] = ()
    reference: tuple[Request, ...] = ()
    seed: int | None = None
    private: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Drawing:
    """The pictures of one run, drawn batch after batch. `name` tells pixels, steps and batch. The pictures
    of `reference`, the first of `requests`, are compared for the quality figure."""

    name: str
    requests: tuple[Sketch, ...]
    reference: tuple[Sketch, ...]
    width_px: int
    height_px: int
    steps: int
    batch: int
    seed: int | None = None

    @property
    def pacing(self) -> Waves:
        """A batch leaves when the one before it is done."""
        return Waves(self.batch)

    @property
    def pictures(self) -> int:
        return sum(len(sketch.prompts) for sketch in self.requests)


Work = Traffic | Drawing
"""What is asked in one run."""


@dataclass(frozen=True)
class Timing:
    """One answer. Seconds since the start of the run; `sent_s` is when a request of an open loop was due,
    `chunk_s` holds when each piece of text arrived.

    A good answer ended with its last piece. Token counts are the server's own, as far as it gives them:
    `cached_tokens` of the prompt came from its prefix cache. `error` tells why an answer is missing or cut;
    such an answer counts in no latency.
    """

    sent_s: float
    ended_s: float
    chunk_s: tuple[float, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    text: str = ""
    error: str | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True)
class Limits:
    """Service levels that a request must meet to count as goodput; None is no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server. `base_url` is without `/v1`."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
