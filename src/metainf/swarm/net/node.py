"""A node: its blocks behind a gRPC stream for each session and span.

Calculation happens in one thread, for many sessions in one pass; the event loop stays free. Every message is
checked before anything is made of it, and a refusal says why.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from metainf.domain import BadInput
from metainf.hosts.tracing import begun
from metainf.swarm.compute.batching import Batcher
from metainf.swarm.compute.blocks import Blocks, Step, WrongPosition
from metainf.swarm.compute.caches import NoRoom
from metainf.swarm.compute.codec import packed, unpacked
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.net.forwarding import METHOD, TICKET_BYTES, VERSION, Link, Links, Visit, checked, digest
from metainf.swarm.net.listening import listening, trace_of
from metainf.swarm.net.paid import Till
from metainf.swarm.net.refusing import Code, No, charged, hired, signed
from metainf.swarm.trust.signing import Refused
from metainf.swarm.trust.tls import grpc, peer_of
from metainf.swarm.words import Span, numbers

MOST_PARTS, MOST_NAME = 16, 128
IDLE_S = 300.0
"""A stream on which nothing arrives for so long is closed."""


@dataclass(frozen=True)
class Offer:
    """What a node offers: which model, which of its blocks, how it calculates. A step takes `slowness` times
    the work: above 1 the node waits, as a slower machine would (for demonstrations and tests). `cache_bytes`
    bounds the caches of all sessions; without it they may take half of the memory that is free."""

    node: str
    model: str
    span: Span
    dtype: str = "float32"
    slowness: float = 1.0
    quantization: str = "none"
    cache_bytes: int | None = None

    @property
    def numbers(self) -> str:
        """How it calculates, as sessions ask for it."""
        return numbers(self.dtype, self.quantization)


class Node:
    """The blocks of one node and the streams that go through them."""

    def __init__(self, checkpoint: Checkpoint, offer: Offer) -> None:
        """Load the blocks. Raises BadInput for blocks that the model lacks, MissingExtra."""
        self.offer, self.checkpoint = offer, checkpoint
        self.blocks = Blocks(checkpoint, offer.span, offer.dtype, offer.quantization, offer.cache_bytes)
        self.parts = {(offer.span.start, offer.span.end): self.blocks}
        self.batcher = Batcher(offer.slowness)
        self.draining = False
        self.links: Links | None = None
        self.till: Till | None = None
        self.visits: dict[bytes, Visit] = {}
        self.streams = self.steps = self.opened = 0
        self._server: Any = None

    async def listen(self, address: str, credentials: Any, links: Links | None = None) -> int:
        """Start to serve; the port that was taken. Without `links` it hands nothing to other nodes."""
        self.links = links
        handler = grpc().stream_stream_rpc_method_handler(self._run)
        self._server, port = await listening(METHOD, handler, address, credentials)
        return port

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take nobody new, let those that are there finish within the grace."""
        self.draining = True
        if self._server is not None:
            await self._server.stop(grace_s)
        self.batcher.stop()

    @property
    def cache_tokens_left(self) -> int:
        """Room for keys and values."""
        return self.blocks.tokens_left

    async def measure(self, tokens: int = 16, tries: int = 5) -> tuple[float, float]:
        """Milliseconds of a block for one token, and for each token of a prompt, as they are here and now."""
        part = next(iter(self.parts.values()))
        hidden = part.torch.zeros(1, tokens, part.hidden_size)
        name, blocks = "measuring", len(self.offer.span)
        prefill, decode = [], []
        for _ in range(tries):
            prefill.append((await self._step(part, name, 0, hidden))[1])
            decode.append((await self._step(part, name, tokens, hidden[:, :1]))[1])
        self.batcher.close(part, name)
        return min(decode) * 1000 / blocks, min(prefill) * 1000 / blocks / tokens

    async def _run(self, _: Any, context: Any) -> None:
        """A stream of a client, or of the node before: the first message tells."""
        self.streams += 1
        try:
            peer = peer_of(context)
            async with asyncio.timeout(IDLE_S) as timer:
                told = _parsed(await _next(context) or b"")
                if told.WhichOneof("kind") == "join":
                    await self._fed(told.join, context, timer)
                else:
                    await self._visited(told, peer, context, timer)
        except No as refusal:
            self._told(f"refused {Code.Code.Name(refusal.code)}")
            await context.write(refusal.message.SerializeToString())
        except Refused as refusal:
            await context.abort(grpc().StatusCode.UNAUTHENTICATED, str(refusal)[:300])
        except TimeoutError:
            pass  # a long silence: the stream is closed
        finally:
            self.streams -= 1

    async def _visited(self, told: Any, peer: str, context: Any, timer: asyncio.Timeout) -> None:
        """A client's session, until it leaves."""
        part, name = self._open(told, peer)
        visit = Visit(part, name, context, told.open.ticket, timer=timer)
        visit.work = hired(self.till, told.open, self.checkpoint.num_blocks, peer)
        about = {"node": self.offer.node, "first_block": told.open.start, "last_block": told.open.end - 1}
        mark = begun("swarm.stage", trace_of(context), about)
        if visit.ticket:
            self.visits[visit.ticket] = visit
        try:
            opened = wire.Opened(version=VERSION, node=self.offer.node, forwards=self.links is not None)
            await context.write(wire.FromNode(opened=opened).SerializeToString())
            while (message := await _next(context)) is not None:
                _awake(timer)
                said = _parsed(message)
                if said.WhichOneof("kind") == "link":
                    self._link(visit, said.link)
                elif said.WhichOneof("kind") == "step":
                    await self._take(visit, said.step)
                elif said.WhichOneof("kind") == "sign":
                    await context.write(await signed(self.till, visit, said.sign.previous))
                else:
                    raise No(Code.MALFORMED, "expected a step")
        except No as refusal:
            mark.end(str(refusal))
            raise
        finally:
            mark.end(tokens=visit.position)
            visit.leave()
            self.visits.pop(visit.ticket, None)
            self._forget(part, name)

    async def _fed(self, join: Any, context: Any, timer: asyncio.Timeout) -> None:
        """Steps from the node before, until it or the session ends. The last that joined feeds."""
        visit = self.visits.get(join.ticket)
        if visit is None or join.version != VERSION:
            raise No(Code.MALFORMED, f"expected a ticket of a session here and version {VERSION}")
        feed = visit.feed = object()
        await context.write(wire.FromNode(joined=wire.Joined(version=VERSION)).SerializeToString())
        while (message := await _next(context)) is not None:
            said = _parsed(message)
            if visit.closed or visit.feed is not feed:
                raise No(Code.MALFORMED, "the session is over, or fed by another node")
            if said.WhichOneof("kind") != "step":
                raise No(Code.MALFORMED, "expected a step")
            _awake(timer)
            _awake(visit.timer)
            await self._take(visit, said.step, direct=True)

    def _link(self, visit: Visit, told: Any) -> None:
        """Begin to hand answers on. Where the directory does not list that node `forwarded` stays false."""
        try:
            checked(told)
        except Refused as error:
            raise No(Code.MALFORMED, str(error)) from None
        if visit.next is not None:
            visit.next.close()
        linked = self.links is not None and self.links.listed(told)
        visit.next = Link(told, self.links.mine) if self.links is not None and linked else None

    async def _take(self, visit: Visit, step: Any, direct: bool = False) -> None:
        """Calculate a step once, whoever brings it, and deliver it."""
        async with visit.lock:
            if not visit.wants(step, direct):
                return
            try:
                charged(self.till, visit, step)
                answer = await self._answer(visit.part, visit.name, step)
            except No as refusal:
                if direct and refusal.code in (
                    Code.NO_ROOM,
                    Code.UNPAID,
                ):  # our failing: the client must hear of it
                    await visit.context.write(refusal.message.SerializeToString())
                raise
            if visit.work is not None:
                visit.work.tally.add(step.position, step.shape[1], answer.data)
            visit.done(step, direct)
            if direct:
                answer.direct, answer.digest = True, digest(step.data)
            await visit.deliver(answer)

    def _told(self, outcome: str) -> None:
        """A session was `opened`, or `refused` for a reason: whoever keeps account overrides this."""

    def _forget(self, part: Blocks, name: str) -> None:
        """Close a session after the step that may still be in the thread."""
        self.batcher.close(part, name)

    def _open(self, told: Any, peer: str) -> tuple[Blocks, str]:
        if told.WhichOneof("kind") != "open":
            raise No(Code.MALFORMED, "expected to be told the session first")
        ask = told.open
        if self.draining:
            raise No(Code.DRAINING, "this node is leaving")
        if ask.version != VERSION:
            raise No(Code.MALFORMED, f"expected version {VERSION} of the protocol, found {ask.version}")
        if not 0 < len(ask.session) <= MOST_NAME:
            raise No(Code.MALFORMED, f"expected a session of 1 to {MOST_NAME} characters")
        if ask.model != self.offer.model or ask.dtype != self.offer.numbers:
            wanted = f"{ask.model[:80]} in {ask.dtype[:20]}"
            raise No(
                Code.WRONG_MODEL, f"expected {self.offer.model} in {self.offer.numbers}, asked for {wanted}"
            )
        if ask.ticket and (len(ask.ticket) != TICKET_BYTES or ask.ticket in self.visits):
            raise No(Code.MALFORMED, f"expected a new ticket of {TICKET_BYTES} bytes, or none")
        self.opened += 1
        self._told("opened")
        return self._part(ask.start, ask.end), f"{peer} {ask.session} {self.opened}"

    def _part(self, start: int, end: int) -> Blocks:
        """Some of the node's blocks. Views of the same span share sessions and weights."""
        held = self.offer.span
        if not held.start <= start < end <= held.end:
            raise No(Code.WRONG_BLOCKS, f"expected blocks within {held}, found [{start}, {end})")
        if (start, end) not in self.parts:
            if len(self.parts) >= MOST_PARTS:
                raise No(Code.NO_ROOM, f"at most {MOST_PARTS} different spans are served at once")
            self.parts[start, end] = self.blocks.view(Span(start=start, end=end))
        return self.parts[start, end]

    async def _answer(self, part: Blocks, name: str, step: Any) -> Any:
        """The step after the blocks, ready to be sent."""
        try:
            values = unpacked(step.shape, step.codec, step.data)
            hidden = part.torch.from_numpy(values)
            made, seconds = await self._step(part, name, step.position, hidden)
        except WrongPosition as error:
            raise No(Code.WRONG_POSITION, str(error), error.expected) from None
        except NoRoom as error:
            raise No(Code.NO_ROOM, str(error)) from None
        except BadInput as error:
            raise No(Code.MALFORMED, str(error)) from None
        shape, data = packed(made.float().numpy(), step.codec)
        return wire.Step(position=step.position, shape=shape, codec=step.codec, data=data, seconds=seconds)

    async def _step(self, part: Blocks, name: str, position: int, hidden: Any) -> tuple[Any, float]:
        """A step's activations, and the seconds of the passes it was part of."""
        self.steps += 1
        step, begun = Step(name, position, hidden), None
        if hidden.shape[1] == 1 and sum(len(each.sessions) for each in self.parts.values()) <= 1:
            begun = self.batcher.at_once(part, step)
        return await asyncio.wrap_future(begun or self.batcher.submit(part, step))


async def _next(context: Any) -> bytes | None:
    """The next message; None at the end of the stream."""
    message = await context.read()
    return message if isinstance(message, bytes) else None


def _awake(timer: asyncio.Timeout) -> None:
    """Something arrived: the silence begins anew."""
    if not timer.expired():
        timer.reschedule(asyncio.get_running_loop().time() + IDLE_S)


def _parsed(message: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return wire.ToNode.FromString(message)
    except DecodeError:
        raise No(Code.MALFORMED, "expected a message of this protocol") from None
