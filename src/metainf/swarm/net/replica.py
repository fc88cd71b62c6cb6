"""A replica's side of the wire: a whole model behind an engine, with identity and doors of every node."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from metainf.domain import BadInput
from metainf.hosts.asked import Refusal
from metainf.hosts.places import Places
from metainf.hosts.tracing import CURRENT, Mark, begun
from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.net.changing import Obeying
from metainf.swarm.net.completing import COMPLETE, EngineFailed, Event, Request, event_message, request_of
from metainf.swarm.net.forwarding import VERSION, Links
from metainf.swarm.net.listening import listening, trace_of
from metainf.swarm.net.refusing import Code, No
from metainf.swarm.trust.signing import Refused
from metainf.swarm.trust.tls import grpc, peer_of

IN_LINE = 4
"""Texts that may wait for each place."""


class Door(Protocol):
    """What writes the texts."""

    def events(self, request: Request) -> AsyncGenerator[Event, None]:
        """A text, piece by piece. Raises EngineFailed, BadInput."""


class Account(Protocol):
    """Who keeps the replica's load."""

    def wrote(self, times_ms: tuple[float, ...], tokens: tuple[int, int]) -> None:
        """A text is over: how long it waited, took to its first token, and from there to its end; tokens of
        its prompt and its own."""


@dataclass(frozen=True)
class WholeOffer:
    """What a replica offers: which model, how many texts at once, and of how many tokens each."""

    node: str
    model: str
    places: int
    context_tokens: int


class ReplicaNode:
    """Texts of one engine behind a gRPC method. `door` is None while there is no engine."""

    def __init__(self, offer: WholeOffer, account: Account) -> None:
        self.offer, self.account = offer, account
        self.door: Door | None = None
        self.places = Places(offer.places, offer.places * IN_LINE)
        self.draining = False
        self.closed = ""
        """Why nobody is taken for now, where that is so."""
        self.obeying: Obeying | None = None
        self.change: Callable[[str], None] = lambda _: None
        """Called with the method that somebody wishes who is obeyed."""
        self.waiting_tokens = 0
        """Of prompts that have no answer yet."""
        self.streams = self.texts = 0
        self.failed: Callable[[], None] = lambda: None
        """Called where the engine broke a text off."""
        self._server: Any = None

    @property
    def cache_tokens_left(self) -> int:
        """The longest text that it takes."""
        return self.offer.context_tokens

    async def listen(self, address: str, credentials: Any, links: Links | None = None) -> int:
        """Start to serve; the port that was taken. A replica hands nothing to other nodes."""
        handler = grpc().unary_stream_rpc_method_handler(self._complete)
        self._server, port = await listening(COMPLETE, handler, address, credentials)
        return port

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take nobody new, let those that are there finish within the grace."""
        self.draining = True
        if self._server is not None:
            await self._server.stop(grace_s)

    async def _complete(self, message: bytes, context: Any) -> None:
        self.streams += 1
        try:
            peer_of(context)
            told = _read(message)
            if told.WhichOneof("kind") == "change":
                await context.write(self._changing(told.change))
                return
            request = self._asked(told)
            if request is None:
                await context.write(event_message(Event()))
                return
            await self._traced(request, context)
        except No as refusal:
            await context.write(refusal.message.SerializeToString())
        except Refused as refusal:
            await context.abort(grpc().StatusCode.UNAUTHENTICATED, str(refusal)[:300])
        except EngineFailed as error:
            self.failed()
            await context.abort(grpc().StatusCode.UNAVAILABLE, str(error)[:300])
        finally:
            self.streams -= 1

    def _changing(self, told: Any) -> bytes:
        """The answer to a wish for another method, which is begun. Raises No."""
        try:
            if self.obeying is None:
                raise Refused("this node runs one method")
            method = self.obeying.heard(told.change, time.time())
        except Refused as error:
            raise No(Code.NOT_OBEYED, str(error)) from None
        self.change(method)
        return bytes(wire.FromNode(changing=wire.Changing(method=method)).SerializeToString())

    def _asked(self, told: Any) -> Request | None:
        """What is to be written; None where somebody only knocks. Raises No."""
        if told.WhichOneof("kind") != "ask" or told.ask.version != VERSION:
            raise No(Code.MALFORMED, f"expected a text to write, in version {VERSION} of the protocol")
        if self.draining or self.closed or self.door is None:
            why = "this node is leaving" if self.draining else self.closed or "its engine is being started"
            raise No(Code.DRAINING, why)
        if told.ask.model != self.offer.model:
            raise No(Code.WRONG_MODEL, f"expected {self.offer.model}, asked for {told.ask.model[:80]}")
        if not told.ask.request:
            return None
        try:
            request = request_of(told.ask.request)
        except BadInput as error:
            raise No(Code.MALFORMED, str(error)) from None
        wanted = len(request.prompt) + request.max_tokens
        if wanted > self.offer.context_tokens:
            raise No(Code.NO_ROOM, f"at most {self.offer.context_tokens} tokens a text, asked for {wanted}")
        return request

    async def _traced(self, request: Request, context: Any) -> None:
        """Write the text as a span of the trace of whoever asked."""
        about: dict[str, str | int | float] = {"node": self.offer.node, "input_tokens": len(request.prompt)}
        mark, why = begun("swarm.replica", trace_of(context), about), "given up"
        before = CURRENT.set(mark.trace)
        try:
            await self._write(request, context, mark)
        except Exception as error:
            why = str(error)
            raise
        finally:
            CURRENT.reset(before)
            mark.end(why)

    async def _write(self, request: Request, context: Any, mark: Mark) -> None:
        since, unread = time.perf_counter(), len(request.prompt)
        self.waiting_tokens += unread
        try:
            async with self.places.place():
                entered, first, tokens = time.perf_counter(), None, 0
                door = self.door
                if door is None:
                    raise No(Code.DRAINING, "its engine is being started")
                async with aclosing(door.events(request)) as events:
                    async for event in events:
                        if first is None:
                            first, self.waiting_tokens, unread = (
                                time.perf_counter(), self.waiting_tokens - unread, 0,
                            )  # fmt: skip
                        tokens = event.output_tokens or tokens + 1
                        if event.finished is not None:  # who has the end may leave at once
                            self._wrote((since, entered, first), (len(request.prompt), tokens))
                            mark.end(output_tokens=tokens)
                        await context.write(event_message(event))
        except Refusal as refusal:
            raise No(Code.NO_ROOM, str(refusal)) from None
        except BadInput as error:
            raise No(Code.MALFORMED, str(error)) from None
        finally:
            self.waiting_tokens -= unread

    def _wrote(self, at_s: tuple[float, float, float], tokens: tuple[int, int]) -> None:
        """A text is over that was asked for, got its place and had its first piece at these times."""
        self.texts += 1
        begun, entered, first = at_s
        spent_s = (entered - begun, first - entered, time.perf_counter() - first)
        self.account.wrote(tuple(each * 1000 for each in spent_s), tokens)


def _read(message: bytes) -> Any:
    """Raises No."""
    from google.protobuf.message import DecodeError

    try:
        return wire.ToNode.FromString(message)
    except DecodeError:
        raise No(Code.MALFORMED, "expected a message of this protocol") from None
