"""A fake OpenAI-compatible server: no model, words by the clock, and every misbehaviour on demand.

`python -m metainf.testing.model_server --port 8000 --ttft-ms 20 --itl-ms 2 --fail cut` runs it as a process;
`async with ModelServer(Behaviour(...)) as server:` inside one. It says that it is a fake wherever it speaks
of itself; what is measured against it is the measuring, never an engine.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self, get_args

from metainf.domain import MissingExtra
from metainf.measure.drive import allow_connections
from metainf.testing.model_server_words import BLOCK_WORDS, BODY, VERSION, WORDS, Fail, metrics_text, usage_of

try:
    from aiohttp import web
except ImportError:
    raise MissingExtra("the fake model server", "measure") from None

MOST_CONNECTIONS = 10_000


@dataclass(frozen=True)
class Behaviour:
    """How the fake behaves. Times in seconds; `fail` begins with the request after `fail_after` good ones.

    `slots` requests are answered at a time, the others wait; None is no bound. Answers begin when so
    many wait `together`. A prompt word that is in no cached beginning costs `prefill_s`.
    `slow_start_s` keeps /health at 503; `stubborn` ignores SIGTERM; another `babble` gives other words.
    """

    ttft_s: float = 0.0
    itl_s: float = 0.0
    prefill_s: float = 0.0
    slots: int | None = None
    together: int = 1
    prefix_cache: bool = False
    slow_start_s: float = 0.0
    fail: Fail | None = None
    fail_after: int = 0
    stubborn: bool = False
    babble: int = 0


class ModelServer:
    """The fake inside a process: `base_url` while entered, `seen` the bodies of the requests so far."""

    def __init__(self, behaviour: Behaviour | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.host, self.port = host, port
        self.seen: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.most_running = 0
        self._beginnings: set[int] = set()
        self._ready_at = 0.0

    @property
    def base_url(self) -> str:
        """Without /v1."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. OSError where the port is taken."""
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/version", self._version)
        app.router.add_post("/reset_prefix_cache", self._forget)
        bound = self.behaviour.slots
        self._slots = asyncio.Semaphore(bound) if bound else contextlib.nullcontext()
        self._together = asyncio.Barrier(self.behaviour.together)
        self._ready_at = asyncio.get_running_loop().time() + self.behaviour.slow_start_s
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close, and cut what is still being answered."""
        await self._runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def _forget(self, _: web.Request) -> web.Response:
        self._beginnings.clear()
        return web.json_response({"success": True})

    async def _health(self, _: web.Request) -> web.Response:
        ready = asyncio.get_running_loop().time() >= self._ready_at
        return web.Response(status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=metrics_text(self.counts, self.behaviour.prefix_cache))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        self.counts["asked"] += 1
        wrong = self.behaviour.fail if self.counts["asked"] > self.behaviour.fail_after else None
        refusal = _refusal(wrong, body)
        if refusal is not None:
            return refusal
        if wrong == "hang":
            await asyncio.Event().wait()
        self.counts["unanswered"] += 1
        try:
            async with self._slots:
                self.counts["running"] += 1
                self.most_running = max(self.most_running, self.counts["running"])
                try:
                    return await self._answer(request, body, wrong)
                finally:
                    self.counts["running"] -= 1
        finally:
            self.counts["unanswered"] -= 1

    async def _answer(
        self, request: web.Request, body: dict[str, Any], wrong: Fail | None
    ) -> web.StreamResponse:
        await self._together.wait()
        prompt = _prompt(body)
        fresh = self._account(prompt)
        await asyncio.sleep(self.behaviour.ttft_s + self.behaviour.prefill_s * fresh)
        words = _words(prompt, int(body.get("max_tokens") or 16), self.behaviour.babble)
        usage = usage_of(len(prompt.split()), len(words), fresh if self.behaviour.prefix_cache else None)
        if not body.get("stream"):
            await asyncio.sleep(self.behaviour.itl_s * (len(words) - 1))
            return self._whole(request, words, usage)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        half = len(words) // 2
        async for i, piece in self._pieces(words, "chat" in request.path):
            if i == half and wrong in ("cut", "unfinished", "stall", "die", "error_inside"):
                return await _break_off(request, response, wrong)
            await response.write(piece)
        self._finish(len(words))
        told = (body.get("stream_options") or {}).get("include_usage") and wrong != "no_usage"
        if told:
            await response.write(b"data: " + json.dumps({**BODY, "choices": [], "usage": usage}).encode())
            await response.write(b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        if wrong == "hangs_up":
            request.protocol.force_close()
        return response

    async def _pieces(self, words: list[str], chat: bool) -> AsyncIterator[tuple[int, bytes]]:
        """One SSE event for each word, `itl_s` apart."""
        for i, word in enumerate(words):
            if i and self.behaviour.itl_s:
                await asyncio.sleep(self.behaviour.itl_s)
            end = '"length"' if i == len(words) - 1 else "null"
            text = f'"delta":{{"content":" {word}"}}' if chat else f'"text":" {word}"'
            yield (
                i,
                f'data: {{"id":"fake","model":"fake","choices":[{{"index":0,{text},'
                f'"finish_reason":{end}}}]}}\n\n'.encode(),
            )

    def _whole(self, request: web.Request, words: list[str], usage: dict[str, Any]) -> web.Response:
        text = "".join(f" {word}" for word in words)
        said = {"message": {"content": text}} if "chat" in request.path else {"text": text}
        self._finish(len(words))
        choice = {"index": 0, "finish_reason": "length", **said}
        return web.json_response({**BODY, "choices": [choice], "usage": usage})

    def _account(self, prompt: str) -> int:
        """Count the prompt's words, and say how many of them no earlier prompt began with."""
        words = prompt.split()
        known = 0
        if self.behaviour.prefix_cache:
            beginning = 0
            for end in range(BLOCK_WORDS, len(words) + 1, BLOCK_WORDS):
                beginning = hash((beginning, *words[end - BLOCK_WORDS : end]))
                if beginning in self._beginnings and known == end - BLOCK_WORDS:
                    known = end
                self._beginnings.add(beginning)
        self.counts["prompt"] += len(words)
        self.counts["hits"] += known
        return len(words) - known

    def _finish(self, words: int) -> None:
        self.counts["generated"] += words
        self.counts["done"] += 1


def _refusal(wrong: Fail | None, body: dict[str, Any]) -> web.StreamResponse | None:
    """The answer that is no stream at all, where the misbehaviour wants one."""
    if wrong == "unavailable":
        return web.json_response({"error": {"message": "no worker is free (fake)"}}, status=503)
    if wrong == "bad_request":
        return web.json_response({"error": {"message": "the prompt is too long (fake)"}}, status=400)
    extras = sorted({"ignore_eos", "stream_options"} & body.keys())
    if wrong == "no_extras" and extras:
        return web.json_response({"detail": f"extra fields not permitted: {extras}"}, status=422)
    if wrong == "garbage":
        return web.Response(
            body=b"data: {not json\n\n\xff\xfe\x00 data\n\n", content_type="text/event-stream"
        )
    if wrong == "html":
        return web.Response(text="<html><body>Welcome (fake)</body></html>", content_type="text/html")
    return None


async def _break_off(request: web.Request, response: web.StreamResponse, how: Fail) -> web.StreamResponse:
    """Leave a stream in its middle."""
    if how == "die":
        print("fake: out of memory while it wrote (a lie)", file=sys.stderr, flush=True)
        os._exit(3)
    if how == "stall":
        await asyncio.Event().wait()
    if how == "error_inside":
        await response.write(b'data: {"error":{"message":"the worker died (fake)","code":500}}\n\n')
    if how == "cut" and request.transport is not None:
        request.transport.abort()
    return response


def _prompt(body: dict[str, Any]) -> str:
    """The prompt, or the messages of a chat joined."""
    if "messages" in body:
        return " ".join(str(message.get("content", "")) for message in body["messages"])
    return str(body.get("prompt", ""))


def _words(prompt: str, count: int, babble: int) -> list[str]:
    """`count` words that depend on the prompt and the babble alone."""
    start = zlib.crc32(prompt.encode()) + babble
    return [WORDS[(start + i * (1 + start % 7)) % len(WORDS)] for i in range(max(count, 1))]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m metainf.testing.model_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    for name in ("ttft-ms", "itl-ms", "prefill-ms", "slow-start-s"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--prefix-cache", action="store_true")
    parser.add_argument("--fail", choices=[*get_args(Fail), "exit"], help="exit ends before it listens")
    for name, usual in (("fail-after", 0), ("together", 1), ("babble", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
    return parser.parse_args(arguments)


async def _serve(server: ModelServer) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    stop = (lambda: print("fake: no", flush=True)) if server.behaviour.stubborn else stopped.set
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    await server.start()
    print(f"fake model server {VERSION} (no model) on {server.base_url}", flush=True)
    await stopped.wait()
    await server.stop()


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or ^C. Exit status 3 where `--fail` is `exit` or `die`, 98 for a taken port."""
    told = vars(_options(arguments))
    if told["fail"] == "exit":
        print("fake: cannot allocate memory (a lie)", file=sys.stderr, flush=True)
        raise SystemExit(3)
    told |= {f"{name}_s": told[f"{name}_ms"] / 1000 for name in ("ttft", "itl", "prefill")}
    allow_connections(MOST_CONNECTIONS)
    named = {field.name: told[field.name] for field in dataclasses.fields(Behaviour)}
    try:
        asyncio.run(_serve(ModelServer(Behaviour(**named), told["host"], told["port"])))
    except OSError as error:
        print(f"fake: {error}", file=sys.stderr, flush=True)
        raise SystemExit(98) from None


if __name__ == "__main__":
    main()
