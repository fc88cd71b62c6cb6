"""From node to node: what a session at a node knows of the node before it and of the node after it.

Every answer goes to the client too, which therefore can rebuild any stage, and compares: a step that came
straight from the node before is answered with the digest of what came, so that a node that tells the client
one thing and its neighbour another is found out at once.
"""

import asyncio
import contextlib
import hashlib
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.trust.certificates import Certified, owner_of, pem_of
from metainf.swarm.trust.signing import Refused
from metainf.swarm.trust.tls import channel, grpc

TICKET_BYTES, DIGEST_BYTES = 16, 16
METHOD = "/metainf.swarm.v1.Node/Run"
VERSION = 1
ADDRESS = re.compile(r"[A-Za-z0-9.\-]{1,200}:\d{1,5}|\[[0-9a-fA-F:.%]{2,60}\]:\d{1,5}")
LINK_S = 5.0
"""Seconds in which the next node must have answered; until then the client carries."""
MOST_WAITING = 4
"""Answers that may wait for the next node to take them; beyond that the link is given up."""


def digest(data: bytes) -> bytes:
    """What a node says it was given."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class Links:
    """Who a node is when it calls the next one, and whom it may call: `trusted` gives the PEM certificates
    that the directory lists at the moment."""

    mine: Certified
    trusted: Callable[[], bytes]

    def listed(self, told: Any) -> bool:
        """Whether the directory lists the node of a link."""
        return pem_of(told.certificate).strip() in self.trusted()


def checked(told: Any) -> None:
    """Raises Refused for a link that is malformed, or names another node than its certificate."""
    owner = owner_of(told.certificate)
    if owner != told.node:
        raise Refused(f"expected a certificate of {told.node[:64]}, found one of {owner}")
    if not ADDRESS.fullmatch(told.address) or len(told.ticket) != TICKET_BYTES:
        raise Refused(f"expected host:port and a ticket of {TICKET_BYTES} bytes")


class Link:
    """The way from a session to the next node. Nothing waits for it: where it fails, the client carries."""

    def __init__(self, told: Any, mine: Certified) -> None:
        self._channel = channel(told.address, told.node, told.certificate, mine)
        self._call = self._channel.stream_stream(METHOD)()
        self._queue: deque[bytes] = deque()
        self._tasks = {asyncio.ensure_future(self._live(told.ticket))}
        self._pump: asyncio.Task[None] | None = None
        self.ready = False

    def post(self, message: bytes) -> bool:
        """Send after what waits already; False where the next node does not take it."""
        if self.ready and len(self._queue) >= MOST_WAITING:
            self.close()
        if not self.ready:
            return False
        self._queue.append(message)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._sent())
        return True

    def close(self) -> None:
        """Leave; may be called more than once."""
        self.ready = False
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        self._tasks = {asyncio.ensure_future(self._channel.close())}

    async def _live(self, ticket: bytes) -> None:
        """Join the session there, then notice when it ends."""
        from google.protobuf.message import DecodeError

        library = grpc()
        with contextlib.suppress(
            library.aio.AioRpcError,
            library.aio.UsageError,
            asyncio.InvalidStateError,
            TimeoutError,
            DecodeError,
        ):
            async with asyncio.timeout(LINK_S) as limit:
                joining = wire.ToNode(join=wire.Join(version=VERSION, ticket=ticket))
                await self._call.write(joining.SerializeToString())
                answer = await self._call.read()
                limit.reschedule(None)
                if (
                    isinstance(answer, bytes)
                    and wire.FromNode.FromString(answer).WhichOneof("kind") == "joined"
                ):
                    self.ready = True
                    await self._call.read()  # the next node says nothing more: this is the end, or a refusal
        self.ready = False

    async def _sent(self) -> None:
        library = grpc()
        try:
            while self._queue:
                await self._call.write(self._queue.popleft())
        except (library.aio.AioRpcError, library.aio.UsageError, asyncio.InvalidStateError):
            self.ready = False


@dataclass
class Visit:
    """One session at a node: where it stands, who feeds it, and the node after it.

    Steps come from the client, from the node before (the feed), or from both; the lock lets one after another
    through, and each position is calculated once.
    """

    part: Any
    name: str
    context: Any
    ticket: bytes = b""
    next: Link | None = None
    feed: object = None
    timer: Any = None
    closed: bool = False
    work: Any = None
    position: int = 0
    sent_by_client: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wants(self, step: Any, direct: bool) -> bool:
        """Whether to calculate a step. What the other side has brought already is dropped, as is whatever a
        feed brings out of turn; the client's other steps are judged by the blocks."""
        if self.closed:
            return False
        if direct:
            return bool(step.position == self.position)
        end = step.position + (step.shape[1] if len(step.shape) == 3 else 0)
        known = self.sent_by_client <= step.position < end <= self.position
        self.sent_by_client = max(self.sent_by_client, end) if known else self.sent_by_client
        return not known

    def done(self, step: Any, direct: bool) -> None:
        """A step was calculated."""
        self.position = step.position + step.shape[1]
        if not direct:
            self.sent_by_client = self.position

    async def deliver(self, answer: Any) -> None:
        """To the next node, and to the client."""
        if self.next is not None and self.next.ready:
            onward = wire.Step(
                position=answer.position, shape=answer.shape, codec=answer.codec, data=answer.data
            )
            answer.forwarded = self.next.post(wire.ToNode(step=onward).SerializeToString())
            await asyncio.sleep(0)  # the next node waits for it, the client does not
        await self.context.write(wire.FromNode(step=answer).SerializeToString())

    def leave(self) -> None:
        """The client is gone."""
        self.closed = True
        if self.next is not None:
            self.next.close()
