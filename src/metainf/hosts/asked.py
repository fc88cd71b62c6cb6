"""What a host is asked in OpenAI's words, and what it answers with: the words between HTTP and a `Writer`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from metainf.domain import BadInput, MetaInfError

Json = dict[str, Any]
DEFAULT_TOKENS, MOST_STOPS, MOST_TEMPERATURE = 16, 16, 2.0


class Refusal(MetaInfError):
    """A request that is not answered, as OpenAI's API tells it: status, `type` and `code` of the error, and
    the seconds after which to ask again, where that helps."""

    def __init__(
        self, status: int, kind: str, code: str | None, message: str, wait_s: float | None = None
    ) -> None:
        self.status, self.kind, self.code, self.wait_s = status, kind, code, wait_s
        super().__init__(message)

    @property
    def body(self) -> Json:
        """OpenAI's error object."""
        return error_of(str(self), self.kind, self.code)


def error_of(message: str, kind: str, code: str | None = None) -> Json:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "code": code, "param": None}}


@dataclass(frozen=True)
class Ask:
    """One completion: a text or token ids, and how to write on. `chat` texts hold their special tokens."""

    prompt: str | tuple[int, ...]
    max_tokens: int = DEFAULT_TOKENS
    ignore_eos: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    chat: bool = False


@dataclass(frozen=True)
class Piece:
    """What one step added: text, and counts of tokens so far. The last piece names why it `finished`."""

    text: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    finished: str | None = None


async def handed(box: "asyncio.Queue[Piece | Exception]") -> AsyncIterator[Piece]:
    """Pieces out of a box up to the last one. What went wrong is raised."""
    while True:
        piece = await box.get()
        if isinstance(piece, Exception):
            raise piece
        yield piece
        if piece.finished:
            return


class Writer(Protocol):
    """The engine behind a host. `submit` raises BadInput for what it cannot write."""

    model: str

    def begin(self, events: asyncio.AbstractEventLoop) -> None:
        """Start writing; pieces are handed to this event loop."""

    def submit(self, ask: Ask) -> AsyncIterator[Piece]:
        """Pieces as they are written; closing the iterator early gives the request up."""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation."""

    def metrics(self) -> str:
        """Its counters in Prometheus text."""

    def close(self) -> None:
        """Stop writing; called once."""


def ask_of(body: Json, writer: Writer) -> Ask:
    """The question that the JSON of a request asks. BadInput names the field that cannot be understood."""
    chat = "messages" in body
    prompt = writer.render(body["messages"]) if chat else body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, list) and all(isinstance(item, int) for item in prompt):
        prompt = tuple(prompt)
    if not isinstance(prompt, str | tuple) or not prompt:
        raise BadInput(f"expected prompt to be one text or a list of token ids, found {body.get('prompt')!r}")
    told = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
    tokens = next((count for count in told if count is not None), DEFAULT_TOKENS)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise BadInput(f"expected max_tokens to be a whole number from 1 on, found {tokens!r}")
    if body.get("n") not in (None, 1):
        raise BadInput(f"expected n to be 1, found {body['n']!r}: ask several times")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise BadInput(f"expected stream_options to be an object, found {body['stream_options']!r}")
    seed = body.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise BadInput(f"expected seed to be a whole number, found {seed!r}")
    return Ask(
        prompt,
        tokens,
        ignore_eos=bool(body.get("ignore_eos", False)),
        temperature=_number(body, "temperature", 0.0, MOST_TEMPERATURE),
        top_p=_number(body, "top_p", 1.0, 1.0) or 1.0,
        seed=seed,
        stop=_stops(body.get("stop")),
        chat=chat,
    )


def _number(body: Json, name: str, otherwise: float, most: float) -> float:
    """A number from 0 to `most`."""
    value = otherwise if body.get(name) is None else body[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise BadInput(f"expected {name} to be a number from 0 to {most:g}, found {value!r:.80}")
    return float(value)


def _stops(told: Any) -> tuple[str, ...]:
    stops = [told] if isinstance(told, str) else told or []
    if not isinstance(stops, list) or not all(isinstance(each, str) and each for each in stops):
        raise BadInput(f"expected stop to be a text or a list of texts, found {told!r:.200}")
    if len(stops) > MOST_STOPS:
        raise BadInput(f"expected at most {MOST_STOPS} texts of stop, found {len(stops)}")
    return tuple(stops)


def usage_of(last: Piece) -> Json:
    """OpenAI's usage object; the cached tokens only where the engine tells them."""
    usage: Json = {
        "prompt_tokens": last.input_tokens,
        "completion_tokens": last.output_tokens,
        "total_tokens": last.input_tokens + last.output_tokens,
    }
    if last.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": last.cached_tokens}
    return usage
