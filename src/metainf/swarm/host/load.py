"""What a node does under load: how long steps wait, how long they take."""

import time
from dataclasses import dataclass, field
from typing import Any

from metainf.domain import BadInput
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.measuring import Speed
from metainf.swarm.host.metrics import Tally
from metainf.swarm.net.node import Node, Offer
from metainf.swarm.words import Writing

WEIGHT = 0.1
"""Of the newest step in the moving averages."""


@dataclass
class Load:
    """Moving averages over steps; they begin with what was measured at rest. All in milliseconds."""

    decode_ms: float
    prefill_ms: float
    pass_ms: float = 0.0
    waiting: int = 0
    waits_ms: list[float] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def at_rest(cls, speed: Speed, slowness: float = 1.0) -> "Load":
        slow = max(1.0, slowness)
        return cls(speed.decode_ms_per_block * slow, speed.prefill_ms_per_token_block * slow)

    def writing(self) -> Writing | None:
        """What a replica says of its texts and methods; None of blocks."""
        return None

    def done(self, waited_ms: float, pass_ms: float, blocks: int, tokens: int) -> None:
        """A step is over that waited and then took so long, for so many blocks and tokens."""
        self.waits_ms.append(max(0.0, waited_ms))
        self.tally.step(tokens, waited_ms / 1000, pass_ms / 1000)
        self.pass_ms = _moved(self.pass_ms or pass_ms, pass_ms)
        if pass_ms <= 0:
            return
        if tokens == 1:
            self.decode_ms = _moved(self.decode_ms, pass_ms / blocks)
        else:
            self.prefill_ms = _moved(self.prefill_ms, pass_ms / blocks / tokens)

    def queue_ms(self) -> float:
        """How long a step waits before its turn: the mean of those done since the last question. Where none
        was done but steps wait, one pass, in which they will go together."""
        waits, self.waits_ms = self.waits_ms, []
        if waits:
            return sum(waits) / len(waits)
        return self.pass_ms if self.waiting else 0.0


def _moved(before: float, now: float) -> float:
    return before + WEIGHT * (now - before)


class Busy(Node):
    """A node that keeps account of its load."""

    def __init__(self, checkpoint: Checkpoint, offer: Offer, load: Load) -> None:
        super().__init__(checkpoint, offer)
        self.load = load

    async def _step(self, part: Any, name: str, position: int, hidden: Any) -> Any:
        begun = time.perf_counter()
        self.load.waiting += 1
        try:
            made = await super()._step(part, name, position, hidden)
        except Exception as error:
            self.load.tally.failures += not isinstance(error, BadInput)  # that is the caller's
            raise
        finally:
            self.load.waiting -= 1
        pass_ms = made[1] * 1000
        whole_ms = (time.perf_counter() - begun) * 1000
        self.load.done(whole_ms - pass_ms, pass_ms, len(part.span), int(hidden.shape[1]))
        return made

    def _told(self, outcome: str) -> None:
        self.load.tally.sessions[outcome] += 1
