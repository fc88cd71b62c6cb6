"""The HTTP side of a host: OpenAI's completions over aiohttp, in front of any `Writer`.

`GET /v1/models`, `POST /v1/completions`, `POST /v1/chat/completions` (streamed as server-sent events or
whole, usage included), `GET /health` and `GET /metrics` in Prometheus text. SIGTERM and SIGINT end it.
"""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from metainf.domain import BadInput, MissingExtra

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

Json = dict[str, Any]
_STOP_WITHIN_S = 2.0
DEFAULT_TOKENS = 16


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
    if body.get("n", 1) != 1:
        raise BadInput(f"expected n to be 1, found {body['n']!r}: ask several times")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise BadInput(f"expected stream_options to be an object, found {body['stream_options']!r}")
    stop = body.get("stop") or ()
    return Ask(
        prompt,
        tokens,
        ignore_eos=bool(body.get("ignore_eos", False)),
        temperature=float(body.get("temperature") or 0.0),
        top_p=float(body.get("top_p") or 1.0),
        seed=body.get("seed"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        chat=chat,
    )


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


@dataclass
class _Answer:
    """The frame that every chunk of one answer shares."""

    model: str
    chat: bool
    number: int
    stream: bool
    usage: bool

    def frame(self, choices: list[Json]) -> Json:
        kind = "chat.completion" if self.chat else "text_completion"
        ending = ".chunk" if self.chat and self.stream else ""
        name = f"{'chatcmpl' if self.chat else 'cmpl'}-{self.number}"
        when = int(time.time())
        return {"id": name, "object": kind + ending, "created": when, "model": self.model, "choices": choices}

    def choice(self, text: str, finished: str | None) -> Json:
        said: Json = {"text": text}
        if self.chat:
            said = {"delta" if self.stream else "message": {"role": "assistant", "content": text}}
        return {"index": 0, **said, "logprobs": None, "finish_reason": finished}


class Door:
    """The handlers in front of one writer."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.answers = 0

    def application(self) -> "Application":
        """The aiohttp application. MissingExtra without aiohttp."""
        try:
            from aiohttp import web
        except ImportError as error:
            raise MissingExtra("serving a model over HTTP", "measure") from error

        app = web.Application(client_max_size=256 * 2**20)
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/chat/completions", self.complete)
        return app

    async def health(self, request: "Request") -> "StreamResponse":
        return _json({"status": "ok"})

    async def models(self, request: "Request") -> "StreamResponse":
        return _json({"object": "list", "data": [{"id": self.writer.model, "object": "model"}]})

    async def metrics(self, request: "Request") -> "StreamResponse":
        from aiohttp import web

        return web.Response(text=self.writer.metrics(), content_type="text/plain")

    async def complete(self, request: "Request") -> "StreamResponse":
        """One answer, streamed or whole; 400 with the reason for what cannot be understood."""
        chat = request.path.endswith("/chat/completions")
        try:
            body = await request.json()
            if not isinstance(body, dict) or ("messages" if chat else "prompt") not in body:
                raise BadInput(f"expected a JSON object with {'messages' if chat else 'prompt'}")
            ask = ask_of(body, self.writer)
            pieces = aiter(self.writer.submit(ask))
            first = await anext(pieces)
        except (BadInput, ValueError, TypeError) as error:
            return _json({"error": {"message": str(error), "type": "invalid_request_error"}}, 400)
        self.answers += 1
        wanted = (body.get("stream_options") or {}).get("include_usage", False)
        answer = _Answer(self.writer.model, chat, self.answers, bool(body.get("stream")), bool(wanted))
        if answer.stream:
            return await self._streamed(request, answer, first, pieces)
        whole = [first, *[piece async for piece in pieces]]
        last = whole[-1]
        said = answer.frame([answer.choice("".join(piece.text for piece in whole), last.finished)])
        return _json(said | {"usage": usage_of(last)})

    async def _streamed(
        self, request: "Request", answer: _Answer, piece: Piece, rest: AsyncIterator[Piece]
    ) -> "StreamResponse":
        from aiohttp import web

        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        try:
            while True:
                if piece.text or piece.finished:
                    await response.write(_event(answer.frame([answer.choice(piece.text, piece.finished)])))
                if piece.finished:
                    break
                piece = await anext(rest)
            if answer.usage:
                await response.write(_event(answer.frame([]) | {"usage": usage_of(piece)}))
            await response.write(b"data: [DONE]\n\n")
        except ConnectionError:
            pass
        finally:
            await rest.aclose()  # type: ignore[attr-defined]
        return response


def _json(body: Json, status: int = 200) -> "StreamResponse":
    from aiohttp import web

    return web.json_response(body, status=status)


def _event(body: Json) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def serve(writer: Writer, taken: socket.socket) -> None:
    """Answer on a bound socket until SIGTERM or SIGINT."""
    writer.begin(asyncio.get_running_loop())
    await listen(Door(writer).application(), taken, writer.close)


async def listen(application: "Application", taken: socket.socket, close: Callable[[], None]) -> None:
    """Serve an application on a bound socket until SIGTERM or SIGINT, then close what is behind it."""
    from aiohttp import web

    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=_STOP_WITHIN_S, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.SockSite(runner, taken, backlog=1024).start()
        print("listening on {}:{}".format(*taken.getsockname()), flush=True)
        await ending.wait()
    finally:
        close()
        await runner.cleanup()
