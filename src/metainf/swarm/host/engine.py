"""An engine behind a replica: started as a child on this machine's loopback, watched, measured, restarted."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from metainf.domain import MetaInfError
from metainf.engines import Launch
from metainf.engines.measurable import Measurable
from metainf.hosts.places import Places
from metainf.measure.drive import drive
from metainf.measure.serving import Patience, Served, started
from metainf.measure.words import ClosedLoop, Endpoint, Request, Timing, Traffic
from metainf.swarm.host.load import Load
from metainf.swarm.host.measuring import Speed
from metainf.swarm.net.completing import EngineDoor
from metainf.swarm.words import Profile, Writing

WARM_TOKENS, TOKENS, TRIES, ANSWER_S = 4, 24, 3, 300.0
PROMPT = (
    "The river rises in the hills, passes {} towns and mills on its way, turns south where the plain begins, "
)
SENTENCES = 6


class NotMeasured(MetaInfError):
    """An engine whose answers tell no speed."""


@dataclass(frozen=True)
class Start:
    """How an engine starts and what is said of it. `places` texts are written at once, each of at most
    `context_tokens`; `how` tells how engine and method were chosen. `prefix_tokens` of beginnings stay in its
    cache."""

    engine: Measurable
    launch: Launch
    profile: Profile
    hardware: str
    places: int
    context_tokens: int
    how: str
    method: str = "unnamed"
    prefix_tokens: int = 0


class Child:
    """The engine's process. Blocking calls go to threads."""

    def __init__(self, start: Start) -> None:
        self.start_as = start
        self.served: Served | None = None
        self._kept = ExitStack()
        self._starting: asyncio.Future[Served] | None = None

    async def start(self) -> EngineDoor:
        """Where it answers. Raises EngineEnded, NotReady, Garbage, MissingExtra."""
        self._starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        self.served = await asyncio.shield(self._starting)  # a thread cannot be given up
        return EngineDoor(self.served.endpoint.base_url, self.served.endpoint.model)

    def _start(self) -> Served:
        told = self.start_as
        return self._kept.enter_context(started(told.engine, told.launch, Patience(), None))

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        process = None if self.served is None else self.served.process
        return process is None or process.poll() is not None

    async def stop(self) -> None:
        """End it; nothing where it is over. One that is about to start is waited for."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
        kept, self._kept, self.served = self._kept, ExitStack(), None
        await asyncio.to_thread(kept.close)


def _asked(number: int) -> Request:
    """Prompts with different beginnings: a prefix cache must not answer for the engine."""
    prompt = f"{number}. " + "".join(PROMPT.format(number * SENTENCES + at) for at in range(SENTENCES))
    return Request(prompt, TOKENS)


async def measured(endpoint: Endpoint, num_blocks: int) -> Speed:
    """The speed of one text alone, by three that are written after a short one. Raises NotMeasured."""
    warm = Request("Count:", WARM_TOKENS)
    asked = tuple(_asked(number) for number in range(1, TRIES + 1))
    traffic = Traffic("replica", asked, ClosedLoop(1), warming=(warm,))
    return speed_of(await drive(traffic, endpoint, ANSWER_S), num_blocks)


def speed_of(timings: Sequence[Timing], num_blocks: int) -> Speed:
    """Milliseconds of a block, of the quickest of some answers: between tokens, and up to the first one less
    the time of a token for each token of the prompt. Raises NotMeasured."""
    decode, prefill = [], []
    for each in timings:
        if each.error is not None or len(each.chunk_s) < 2 or not each.output_tokens or not each.input_tokens:
            continue
        token_s = (each.chunk_s[-1] - each.chunk_s[0]) / max(1, each.output_tokens - 1)
        decode.append(token_s)
        prefill.append(max(0.0, each.chunk_s[0] - each.sent_s - token_s) / each.input_tokens)
    if not decode or min(decode) <= 0:
        told = "; ".join(sorted({each.error for each in timings if each.error is not None}))
        raise NotMeasured(f"expected streamed answers with counts of tokens, found none ({told[:200]})")
    ms = 1000 / num_blocks
    return Speed(decode_ms_per_block=min(decode) * ms, prefill_ms_per_token_block=min(prefill) * ms)


@dataclass
class WholeLoad(Load):
    """The load of a replica, which counts whole texts. `text_ms` is how long one takes lately."""

    num_blocks: int = 1
    text_ms: float = 0.0
    places: Places | None = field(default=None, repr=False)
    says: Callable[[], Writing] | None = field(default=None, repr=False)

    def writing(self) -> Writing | None:
        return None if self.says is None else self.says()

    def wrote(self, times_ms: tuple[float, ...], tokens: tuple[int, int]) -> None:
        """A text is over: how long it waited, took to its first token, and from there to its end; tokens of
        its prompt and its own."""
        waited_ms, first_ms, rest_ms = times_ms
        prompt, written = tokens
        took_ms = first_ms + rest_ms
        self.text_ms = took_ms if not self.text_ms else 0.8 * self.text_ms + 0.2 * took_ms
        if written > 1 and rest_ms > 0:
            token_ms = rest_ms / (written - 1)
            self.done(waited_ms, token_ms, self.num_blocks, 1)
            self.done(0.0, max(0.0, first_ms - token_ms), self.num_blocks, max(2, prompt))
            self.waits_ms.pop()
        else:
            self.waits_ms.append(waited_ms)

    def queue_ms(self) -> float:
        """How long a text waits before its turn: the mean of those done since the last question, and at
        least the turns of those that are before it now."""
        waits, self.waits_ms = self.waits_ms, []
        recent = sum(waits) / len(waits) if waits else 0.0
        room = self.places
        if room is None or room.taken < room.places:
            return recent
        return max(recent, (room.in_line + 1) / room.places * self.text_ms)
