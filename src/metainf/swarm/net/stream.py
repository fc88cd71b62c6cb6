"""One stage of a route as the client sees it: a stream to one node for one span."""

import asyncio
import os
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput, MetaInfError
from metainf.hosts.tracing import Trace
from metainf.swarm.compute.codec import packed, unpacked
from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.net.forwarding import METHOD, TICKET_BYTES, VERSION, digest
from metainf.swarm.net.listening import tracing
from metainf.swarm.net.pacing import Pace
from metainf.swarm.net.paid import Tally, believed
from metainf.swarm.trust.signing import Refused
from metainf.swarm.trust.tls import grpc
from metainf.swarm.words import Stage, numbers

Activations = NDArray[np.float32]
STALLED_S = 0.02
"""A timer that is so late tells of a machine that has no time, not of a node that hangs."""


class StageFailed(MetaInfError):
    """A node that died, hung, refused or answered nonsense."""

    def __init__(self, stage: Stage, why: str) -> None:
        self.stage, self.why = stage, why
        super().__init__(f"{stage.node} {stage.span}: {why}")


class OtherInput(StageFailed):
    """Two nodes disagree on what one gave the other: the stage begins anew, and nobody is to blame yet."""


class NotHired(StageFailed):
    """A node that does not work for this order, or not any more: it has not failed."""


@dataclass(frozen=True)
class Terms:
    """What a session agrees on with every node, and when a node counts as hung.

    Seconds: `open_s` to open a stream; `step_s` for a step and `token_s` in addition for each further token
    of it, until the node's own pace is known, and never more; then four times what is usual, but not below
    `floor_s`. `patience_s`: how long to go on trying when no node is left. `direct`: nodes hand activations
    straight to the next one. `trace` is that of the request, handed to every node; `order` the sealed order
    of who pays.
    """

    session: str
    model: str
    dtype: str = "float32"
    codec: str = "f32"
    open_s: float = 5.0
    step_s: float = 2.0
    token_s: float = 0.2
    floor_s: float = 0.5
    patience_s: float = 3.0
    direct: bool = True
    quantization: str = "none"
    trace: Trace = ""
    order: str = ""

    @property
    def numbers(self) -> str:
        """How every node must calculate."""
        return numbers(self.dtype, self.quantization)


class Stream:
    """An open stage. Every failure, of whatever kind, is a StageFailed."""

    def __init__(self, stage: Stage, terms: Terms, channel: Any, pace: Pace | None = None) -> None:
        self.stage, self.terms, self.pace = stage, terms, pace or Pace()
        self.ticket = os.urandom(TICKET_BYTES)
        self._call = channel.stream_stream(METHOD)(metadata=tracing(terms.trace))
        self._reading: asyncio.Future[Any] | None = None
        self.position = 0
        self.node_s = self.wire_s = 0.0
        self.forwards = self.forwarded = False
        self.fed = False
        self.direct_steps = 0
        self.given = b""
        self.tally = Tally() if terms.order else None

    async def open(self) -> None:
        span, terms = self.stage.span, self.terms
        ask = wire.Open(
            version=VERSION,
            session=terms.session,
            model=terms.model,
            start=span.start,
            end=span.end,
            dtype=terms.numbers,
            ticket=self.ticket,
            order=terms.order,
        )
        begun, limit_s = time.monotonic(), terms.open_s * self.pace.patience
        await self._write(wire.ToNode(open=ask), limit_s)
        answer = await self._read(begun + limit_s, limit_s)
        assert answer is not None
        if answer.WhichOneof("kind") != "opened" or answer.opened.node != self.stage.node:
            raise StageFailed(self.stage, "somebody else answered")
        self.forwards = answer.opened.forwards

    async def link(self, address: str, certificate: bytes, after: "Stream") -> None:
        """Have the node hand its answers to the stage after this one. `forwarded` tells whether it does."""
        if self.forwards:
            told = wire.Link(
                address=address, node=after.stage.node, certificate=certificate, ticket=after.ticket
            )
            await self._write(wire.ToNode(link=told), self.terms.open_s)
            after.fed = True

    async def step(self, values: Activations, brought: bytes | None = None) -> Activations:
        """Activations after the span. The next step begins behind these tokens.

        `brought` is the digest of the input where the node before was to hand it over (`given` of its stage).
        When half of the deadline is over, or it was not handed over, the client sends the input itself.
        Afterwards `forwarded` tells whether the answer was handed on, and `given` is its digest.
        """
        begun, tokens = time.monotonic(), values.shape[1]
        terms = self.terms
        limit_s = self.pace.deadline_s(tokens, terms.step_s, terms.token_s, terms.floor_s)
        mine, answer, waits = brought, None, brought is not None and self.fed
        if waits:
            answer = await self._answer(begun + limit_s / 2, limit_s, needed=False)
        if answer is None:
            shape, data = packed(values, terms.codec)
            step = wire.Step(position=self.position, shape=shape, codec=terms.codec, data=data)
            mine = mine or digest(data)
            await self._write(wire.ToNode(step=step), begun + limit_s - time.monotonic())
            answer = await self._answer(begun + limit_s, limit_s)
        took = max(time.monotonic() - begun, answer.seconds if waits else 0.0)
        made = self._believed(answer, values, mine)
        self.pace.took(tokens, took)
        if self.tally is not None:
            self.tally.add(self.position, tokens, answer.data)
        self.position += tokens
        self.node_s += answer.seconds
        self.wire_s += max(0.0, took - answer.seconds)
        self.direct_steps += answer.direct
        self.fed = self.fed and (answer.direct or not waits)  # a way on which nothing comes is not waited for
        return made

    async def receipt(self, previous: str) -> str | None:
        """The node's sealed word for what it sent here; None where it sent nothing. A word that is not what
        came here is a StageFailed. `previous` is the digest that it must name."""
        if self.tally is None or not self.tally.tokens:
            return None
        limit_s = self.terms.open_s
        await self._write(wire.ToNode(sign=wire.Sign(previous=previous)), limit_s)
        answer = await self._read(time.monotonic() + limit_s, limit_s)
        if answer.WhichOneof("kind") != "signed":
            raise StageFailed(self.stage, "expected a receipt, found another message")
        try:
            believed(answer.signed.receipt, self.terms.order, previous, self.stage, self.tally)
        except Refused as error:
            raise StageFailed(self.stage, f"its receipt is wrong: {error}") from None
        return str(answer.signed.receipt)

    def cancel(self) -> None:
        """Leave at once; the node forgets the session."""
        if self._reading is not None:
            self._reading.add_done_callback(_heard)
            self._reading.cancel()
        self._call.cancel()

    def _believed(self, answer: Any, values: Activations, mine: bytes | None) -> Activations:
        if answer.direct and answer.digest != mine:
            raise OtherInput(self.stage, "it calculated with another input than the client was told")
        try:
            made = unpacked(answer.shape, answer.codec, answer.data)
        except BadInput as error:
            raise StageFailed(self.stage, str(error)) from None
        if made.shape != values.shape or not np.isfinite(made).all():
            raise StageFailed(self.stage, "the answer has another shape, or holds what is no number")
        self.forwarded = answer.forwarded
        self.given = digest(answer.data) if answer.forwarded else b""
        return made

    async def _answer(self, until_s: float, limit_s: float, needed: bool = True) -> Any:
        """The node's answer to the step at this position; None at `until_s` where it is not `needed`."""
        told = await self._read(until_s, limit_s, needed)
        if told is None:
            return None
        if told.WhichOneof("kind") != "step" or told.step.position != self.position:
            raise StageFailed(self.stage, "the answer is of another step")
        return told.step

    async def _read(self, until_s: float, limit_s: float, needed: bool = True) -> Any:
        """The next message, by `until_s`."""
        from google.protobuf.message import DecodeError

        if self._reading is None:
            self._reading = asyncio.ensure_future(self._call.read())
        left_s = max(0.0, until_s - time.monotonic())
        done, _ = await asyncio.wait({self._reading}, timeout=left_s)
        late_s = time.monotonic() - until_s
        if not done and late_s > STALLED_S:  # the client itself was held up: the node may have been, too
            done, _ = await asyncio.wait({self._reading}, timeout=late_s)
        if not done:
            if not needed:
                return None
            raise StageFailed(self.stage, f"no answer within {limit_s:.1f} s")
        reading, self._reading = self._reading, None
        if reading.cancelled():
            raise StageFailed(self.stage, "the stream was closed")
        answer = await self._tried(reading)
        if not isinstance(answer, bytes):
            raise StageFailed(self.stage, "the stream ended")
        try:
            told = wire.FromNode.FromString(answer)
        except DecodeError:
            raise StageFailed(self.stage, "the answer is no message of this protocol") from None
        if told.WhichOneof("kind") == "refusal":
            kind = NotHired if told.refusal.code == wire.Refusal.UNPAID else StageFailed
            raise kind(self.stage, told.refusal.why[:300])
        return told

    async def _write(self, message: Any, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._tried(self._call.write(message.SerializeToString()))
        except TimeoutError:
            raise StageFailed(self.stage, f"nothing was taken within {max(seconds, 0.0):.1f} s") from None

    async def _tried(self, doing: Awaitable[Any]) -> Any:
        library = grpc()
        try:
            return await doing
        except library.aio.AioRpcError as error:
            raise StageFailed(self.stage, f"{error.code().name}: {str(error.details())[:200]}") from None
        except (asyncio.InvalidStateError, library.aio.UsageError) as error:
            raise StageFailed(self.stage, f"the stream is closed: {error}") from None


def _heard(reading: "asyncio.Future[Any]") -> None:
    """Whatever came of a read that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
