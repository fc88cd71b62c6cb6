"""A node's refusals, and what it refuses where money is concerned."""

import time
from typing import Any

from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.net.forwarding import Visit
from metainf.swarm.net.paid import Till, Work
from metainf.swarm.trust.signing import Refused

Code = wire.Refusal


class No(Exception):
    """A refusal on its way to the other side."""

    def __init__(self, code: int, why: str, expected: int = 0) -> None:
        super().__init__(why)
        self.code = code
        self.message = wire.FromNode(
            refusal=wire.Refusal(code=code, why=why[:500], expected_position=expected)  # type: ignore[arg-type]
        )


def hired(till: Till | None, ask: Any, num_blocks: int, peer: str) -> Work | None:
    """The order that a session shows, checked; None where it shows none. Raises No."""
    if not ask.order or till is None:
        return None
    try:
        return till.hired(ask.order, (ask.model, num_blocks), (peer, ask.session), time.time())
    except Refused as error:
        raise No(Code.UNPAID, str(error)) from None


def charged(till: Till | None, visit: Visit, step: Any) -> None:
    """Before a step. Raises No for what nobody pays for, where that is asked for."""
    if till is not None and len(step.shape) == 3:
        try:
            till.charged(visit.work, len(visit.part.span) * step.shape[1])
        except Refused as error:
            raise No(Code.UNPAID, str(error)) from None


async def signed(till: Till | None, visit: Visit, previous: str) -> bytes:
    """The message that signs for what was sent in a session. Raises No."""
    async with visit.lock:
        if till is None or visit.work is None or not visit.work.tally.tokens:
            raise No(Code.UNPAID, "expected an order, and work that was done for it")
        try:
            text = till.signed(visit.work, previous, visit.part.span, time.time())
        except Refused as error:
            raise No(Code.MALFORMED, str(error)) from None
        return bytes(wire.FromNode(signed=wire.Signed(receipt=text)).SerializeToString())
