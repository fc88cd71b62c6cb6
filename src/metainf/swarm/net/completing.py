"""Whole texts from a replica: the request and its events between a client and a node, over the node's gRPC.

The request holds what OpenAI's completions call `prompt` (token ids), `max_tokens`, `temperature`, `top_p`,
`seed` and `ignore_eos`. Stop words, and what a text of several ways is, are the client's business.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, NonNegativeInt

from metainf.domain import BadInput, MetaInfError
from metainf.domain.base import Frozen
from metainf.hosts.tracing import CURRENT, HEADER, Trace
from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.net.forwarding import VERSION
from metainf.swarm.net.listening import tracing
from metainf.swarm.trust.tls import grpc

COMPLETE = "/metainf.swarm.v1.Node/Complete"
MOST_REQUEST_BYTES, MOST_TOKENS, MOST_TEXT = 8 * 2**20, 2**20, 2**16
SPARE_EVENTS = 16
FIRST_S, NEXT_S, LATE = 10.0, 10.0, 4.0
"""How long a client waits for the first event (and LATE times what the node promises) and for each other."""


class ReplicaFailed(MetaInfError):
    """A replica that died, hung, refused or answered nonsense."""

    def __init__(self, node: str, why: str) -> None:
        self.node, self.why = node, why
        super().__init__(f"{node}: {why}")


class Request(Frozen):
    """A text to write on. `prompt` are token ids of the model."""

    prompt: tuple[NonNegativeInt, ...] = Field(min_length=1, max_length=MOST_TOKENS)
    max_tokens: int = Field(ge=1, le=MOST_TOKENS)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    ignore_eos: bool = False


class Event(Frozen):
    """A piece of text. The last one says why the text `finished`, and how many tokens it has."""

    text: str = Field(default="", max_length=MOST_TEXT)
    finished: Literal["stop", "length"] | None = None
    output_tokens: NonNegativeInt | None = None


@dataclass(frozen=True)
class Replica:
    """A node as its client knows it: a channel to it, and the seconds it promises until the first token."""

    node: str
    model: str
    channel: Any
    promised_s: float = 0.0


def ask(model: str, request: Request | None) -> bytes:
    """The message of a request; without one it only asks whether the node would take it."""
    body = b"" if request is None else request.canonical().encode()
    asked = wire.Ask(version=VERSION, model=model, request=body)
    return bytes(wire.ToNode(ask=asked).SerializeToString())


def request_of(body: bytes) -> Request:
    """What was asked. Raises BadInput."""
    if len(body) > MOST_REQUEST_BYTES:
        raise BadInput(f"expected a request of at most {MOST_REQUEST_BYTES} bytes, found {len(body)}")
    try:
        return Request.parse(body)
    except RecursionError:
        raise BadInput("expected a request, found one that is nested too deeply") from None


def event_message(event: Event) -> bytes:
    """As it is sent."""
    made = wire.FromNode(event=wire.Event(data=event.canonical().encode()))
    return bytes(made.SerializeToString())


async def greeted(replica: Replica, within_s: float) -> None:
    """Ask whether the node lets one in. Raises ReplicaFailed."""
    call = replica.channel.unary_stream(COMPLETE)(ask(replica.model, None))
    try:
        if await _next(replica, call, within_s) is None:
            raise ReplicaFailed(replica.node, "it did not answer")
    finally:
        call.cancel()


async def completed(replica: Replica, request: Request, trace: Trace = "") -> AsyncGenerator[Event, None]:
    """The events of a text; the last has `finished`. Leaving frees the node, which is handed the
    `trace` of whoever asks. Raises ReplicaFailed."""
    asked = ask(replica.model, request)
    call = replica.channel.unary_stream(COMPLETE)(asked, metadata=tracing(trace))
    limit_s, count = FIRST_S + LATE * replica.promised_s, 0
    try:
        while (event := await _next(replica, call, limit_s)) is not None:
            count += 1
            if count > request.max_tokens + SPARE_EVENTS:
                raise ReplicaFailed(
                    replica.node, f"more events than the {request.max_tokens} tokens asked for"
                )
            yield event
            if event.finished is not None:
                return
            limit_s = NEXT_S
        raise ReplicaFailed(replica.node, "the text ended without an end")
    finally:
        call.cancel()


async def _next(replica: Replica, call: Any, within_s: float) -> Event | None:
    """The next event; None at the end of the stream."""
    from google.protobuf.message import DecodeError

    library = grpc()
    try:
        async with asyncio.timeout(within_s):
            answer = await call.read()
        if not isinstance(answer, bytes):
            return None
        told = wire.FromNode.FromString(answer)
    except TimeoutError:
        raise ReplicaFailed(replica.node, f"nothing came within {within_s:.1f} s") from None
    except library.aio.AioRpcError as error:
        raise ReplicaFailed(replica.node, f"{error.code().name}: {str(error.details())[:200]}") from None
    except (library.aio.UsageError, asyncio.InvalidStateError) as error:
        raise ReplicaFailed(replica.node, f"the stream is closed: {error}") from None
    except DecodeError:
        raise ReplicaFailed(replica.node, "the answer is no message of this protocol") from None
    if told.WhichOneof("kind") == "refusal":
        raise ReplicaFailed(replica.node, told.refusal.why[:300])
    if told.WhichOneof("kind") != "event":
        raise ReplicaFailed(replica.node, "expected a piece of text, found another message")
    try:
        return Event.parse(told.event.data)
    except (BadInput, RecursionError) as error:
        raise ReplicaFailed(replica.node, f"a piece of text that cannot be: {str(error)[:200]}") from None


class EngineFailed(MetaInfError):
    """The engine behind a replica does not answer, or not as OpenAI's API does."""


@dataclass(frozen=True)
class EngineDoor:
    """OpenAI's completions of an engine on this machine."""

    base_url: str
    model: str
    silent_s: float = 120.0
    """An engine that says nothing for so long is given up."""

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        """The text, piece by piece. Leaving hangs up. An engine that keeps traces may go on with the current
        one. Raises EngineFailed, BadInput where it refuses."""
        import aiohttp

        body = request.model_dump(exclude_none=True) | {
            "model": self.model, "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        waits = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=self.silent_s)
        url, trace = f"{self.base_url.rstrip('/')}/v1/completions", CURRENT.get()
        try:
            async with (
                aiohttp.ClientSession(timeout=waits, trust_env=False) as session,
                session.post(url, json=body, headers={HEADER: trace} if trace else None) as response,
            ):
                if response.status != 200:
                    said = (await response.content.read(2000)).decode("utf-8", "replace")
                    wrong = f"the engine answered with status {response.status}: {said[:200]}"
                    raise BadInput(wrong) if response.status in (400, 422) else EngineFailed(wrong)
                async with aclosing(_read(response.content)) as events:
                    async for event in events:
                        yield event
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if isinstance(error, MetaInfError):
                raise
            raise EngineFailed(f"the engine broke off: {str(error)[:200] or type(error).__name__}") from None


async def _read(content: Any) -> AsyncGenerator[Event, None]:
    """Server-sent events as ours; the end waits for the counts, which come after it."""
    finished: Any = None
    count, pieces = None, 0
    async for line in content:
        if not line.startswith(b"data:"):
            continue
        told = line.removeprefix(b"data:").strip()
        if told == b"[DONE]":
            break
        chunk = json.loads(told)
        if not isinstance(chunk, dict) or "error" in chunk:
            raise EngineFailed(f"the engine said {told[:200].decode('utf-8', 'replace')}")
        count = (chunk.get("usage") or {}).get("completion_tokens", count)
        for choice in (chunk.get("choices") or [])[:1]:
            finished = choice.get("finish_reason") or finished
            if text := choice.get("text"):
                pieces += 1
                yield Event(text=text)
    if finished is None:
        raise EngineFailed("the engine's text ended without an end")
    why: Literal["stop", "length"] = "length" if finished == "length" else "stop"
    yield Event(finished=why, output_tokens=pieces if count is None else count)
