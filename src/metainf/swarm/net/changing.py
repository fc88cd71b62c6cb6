"""A wish that a replica run another method: signed by who wishes it, obeyed where the operator allows it."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import NonNegativeFloat

from metainf.domain import MetaInfError
from metainf.domain.base import Frozen
from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.net.completing import COMPLETE
from metainf.swarm.net.forwarding import VERSION
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.sealed import opened, sealed
from metainf.swarm.trust.signing import Refused
from metainf.swarm.trust.tls import grpc
from metainf.swarm.words import MethodName, NodeId

FRESH_S = 60.0
"""A wish that is older, or as much from the future, is not obeyed."""
ANSWER_S = 10.0


class Change(Frozen):
    """Which node should run which method, and since when this is wished (seconds since the epoch)."""

    node: NodeId
    method: MethodName
    issued_s: NonNegativeFloat


class NotChanged(MetaInfError):
    """A node that does not change its method, or does not answer."""


@dataclass
class Obeying:
    """Whom a replica obeys, which methods it may run, and the newest wish of each."""

    node: str
    who: Collection[str]
    methods: Sequence[str]
    newest_s: dict[str, float] = field(default_factory=dict)

    def heard(self, text: str, now_s: float) -> str:
        """The method that is wished. Raises Refused."""
        found = opened(Change, text)
        change, signer = found.word, found.signer
        if signer not in self.who:
            raise Refused(f"this node does not change its method for {signer}: its operator lists who may")
        if change.node != self.node:
            raise Refused(f"expected a wish for {self.node}, found one for {change.node}")
        if change.method not in self.methods:
            raise Refused(f"expected one of {', '.join(self.methods)}, found {change.method}")
        if abs(now_s - change.issued_s) > FRESH_S:
            raise Refused(f"expected a wish of the last {FRESH_S:.0f} s, found another: set the clocks")
        if change.issued_s <= self.newest_s.get(signer, 0.0):
            raise Refused("this wish, or a later one, was heard before")
        self.newest_s[signer] = change.issued_s
        return change.method


def wish(identity: Identity, node: str, method: str, now_s: float) -> bytes:
    """The message of a wish."""
    text = sealed(identity, Change(node=node, method=method, issued_s=now_s))
    return bytes(wire.ToNode(change=wire.Change(version=VERSION, change=text)).SerializeToString())


async def asked_to_change(channel: Any, message: bytes, within_s: float = ANSWER_S) -> None:
    """Tell a replica. Raises NotChanged with its reason."""
    from google.protobuf.message import DecodeError

    call = channel.unary_stream(COMPLETE)(message)
    try:
        async with asyncio.timeout(within_s):
            answer = await call.read()
        told = wire.FromNode.FromString(answer if isinstance(answer, bytes) else b"")
    except (TimeoutError, DecodeError, grpc().aio.AioRpcError, asyncio.InvalidStateError) as error:
        raise NotChanged(f"no answer: {str(error)[:200] or type(error).__name__}") from None
    finally:
        call.cancel()
    if told.WhichOneof("kind") != "changing":
        raise NotChanged(told.refusal.why[:300] or "expected a promise to change, found another message")
