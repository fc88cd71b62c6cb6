"""The HTTP side of a host: OpenAI's completions over aiohttp, in front of any `Writer`.

`GET /v1/models`, `POST /v1/completions`, `POST /v1/chat/completions` (streamed as server-sent events or
whole, usage included), `GET /health` and `GET /metrics` in Prometheus text. SIGTERM and SIGINT end it.
"""

import asyncio
import json
import math
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metainf.domain import BadInput
from metainf.hosts.asked import Ask, Json, Piece, Refusal, Writer, ask_of, usage_of
from metainf.hosts.paths import Paths, reply

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

_STOP_WITHIN_S = 2.0


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


class Door(Paths):
    """The handlers in front of one writer."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer)
        self.writer = writer
        self.answers = 0

    def application(self, middlewares: Sequence[Any] = ()) -> "Application":
        """The aiohttp application. MissingExtra without aiohttp."""
        app = super().application(middlewares)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/chat/completions", self.complete)
        return app

    def read(self, body: Json) -> Ask:
        """What is asked. BadInput or Refusal for what cannot be answered."""
        return ask_of(body, self.writer)

    async def complete(self, request: "Request") -> "StreamResponse":
        """One answer, streamed or whole; 400 with the reason for what cannot be understood."""
        chat = request.path.endswith("/chat/completions")
        pieces: AsyncIterator[Piece] | None = None
        try:
            body = await request.json()
            if not isinstance(body, dict) or ("messages" if chat else "prompt") not in body:
                raise BadInput(f"expected a JSON object with {'messages' if chat else 'prompt'}")
            if not chat:
                body.pop("messages", None)
            ask = self.read(body)
            pieces = aiter(self.writer.submit(ask))
            first = await anext(pieces)
            self.answers += 1
            wanted = (body.get("stream_options") or {}).get("include_usage", False)
            answer = _Answer(self.writer.model, chat, self.answers, bool(body.get("stream")), bool(wanted))
            if answer.stream:
                return await self._streamed(request, answer, first, pieces)
            whole = [first, *[piece async for piece in pieces]]
        except Refusal as refusal:
            return refused(refusal)
        except (BadInput, ValueError, TypeError, RecursionError) as error:
            return refused(Refusal(400, "invalid_request_error", None, str(error)))
        finally:
            if pieces is not None:
                await pieces.aclose()  # type: ignore[attr-defined]
        last = whole[-1]
        said = answer.frame([answer.choice("".join(piece.text for piece in whole), last.finished)])
        return reply(said | {"usage": usage_of(last)} | self.more())

    def more(self) -> Json:
        """What a whole answer has beside OpenAI's fields, and the last piece of one that is streamed."""
        return {}

    async def answered(self, body: Json) -> Json:
        """One whole answer to the JSON of a request. Raises BadInput, Refusal."""
        pieces = aiter(self.writer.submit(self.read(body)))
        try:
            whole = [piece async for piece in pieces]
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
        self.answers += 1
        answer = _Answer(self.writer.model, "messages" in body, self.answers, stream=False, usage=True)
        said = answer.frame([answer.choice("".join(piece.text for piece in whole), whole[-1].finished)])
        return said | {"usage": usage_of(whole[-1])}

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
                    said = answer.frame([answer.choice(piece.text, piece.finished)])
                    await response.write(_event(said | (self.more() if piece.finished else {})))
                if piece.finished:
                    break
                piece = await anext(rest)
            if answer.usage:
                await response.write(_event(answer.frame([]) | {"usage": usage_of(piece)}))
            await response.write(b"data: [DONE]\n\n")
        except Refusal as refusal:
            await response.write(_event(refusal.body))
        except ConnectionError:
            pass
        return response


def refused(refusal: Refusal) -> "StreamResponse":
    """The answer to a request that is not answered."""
    waits = {} if refusal.wait_s is None else {"Retry-After": str(max(1, math.ceil(refusal.wait_s)))}
    return reply(refusal.body, refusal.status, waits)


def _event(body: Json) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def serve(writer: Writer, taken: socket.socket) -> None:
    """Answer on a bound socket until SIGTERM or SIGINT."""
    writer.begin(asyncio.get_running_loop())
    await listen(Door(writer).application(), taken, writer.close)


async def listen(
    application: "Application",
    taken: socket.socket,
    close: Callable[[], None],
    grace_s: float = _STOP_WITHIN_S,
    secure: ssl.SSLContext | None = None,
) -> None:
    """Serve an application on a bound socket until SIGTERM or SIGINT, then close what is behind it, and give
    requests that run `grace_s` seconds to end. HTTPS where it is `secure`."""
    from aiohttp import web

    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=grace_s, handler_cancellation=True)
    await runner.setup()
    try:
        await web.SockSite(runner, taken, backlog=1024, ssl_context=secure).start()
        print("listening on {}:{}".format(*taken.getsockname()), flush=True)
        await ending.wait()
    finally:
        close()
        await runner.cleanup()
