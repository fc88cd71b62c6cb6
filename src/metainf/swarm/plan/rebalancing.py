"""Whether a node should leave its blocks for others, judged from what everybody announces.

A node moves only where the weakest block gains enough to be worth loading weights, never where its own blocks
would be left without a holder, and not before it has stayed for a while. Callers judge at random moments: two
nodes that judge the same picture at once would both move.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from metainf.domain import BadInput
from metainf.swarm.plan.placement import choose, strengths, throughput
from metainf.swarm.plan.table import missing
from metainf.swarm.words import Held, Span

ENOUGH = 0.75
"""Move where today's throughput is at most this share of the throughput after the move."""
STAY_S = 600.0
"""How long a node stays where it is at least, while every block has a holder."""


@dataclass(frozen=True)
class Decision:
    """Where to go (None: stay), why, and the throughputs (requests a second) before and after."""

    span: Span | None
    why: str
    before: float
    after: float


def decide(
    node: str,
    held: Sequence[Held],
    num_blocks: int,
    stayed_s: float = STAY_S,
    enough: float = ENOUGH,
    stay_s: float = STAY_S,
) -> Decision:
    """Judge for one node of the swarm. Raises BadInput for a node that holds nothing."""
    mine = next((each for each in held if each.capacity.node == node), None)
    if mine is None:
        raise BadInput(f"expected {node} among the holders, found {len(held)} others")
    others = [each for each in held if each.capacity.node != node]
    before = throughput(held, num_blocks)
    span = choose(mine.capacity, strengths(others, num_blocks))
    moved = [*others, mine.model_copy(update={"span": span})]
    after = throughput(moved, num_blocks)

    def stay(why: str) -> Decision:
        return Decision(None, why, before, after)

    if span == mine.span:
        return stay("it stands where it helps most")
    gaps, left = _missing(held, num_blocks), _missing(others, num_blocks)
    filled = _missing(moved, num_blocks)
    if gaps:
        if filled < gaps:
            return Decision(span, f"{gaps - filled} blocks without a holder get one", before, after)
        return stay("no place fills more of the missing blocks")
    if left:
        return stay("its blocks would be left without a holder while it loads others")
    if stayed_s < stay_s:
        return stay(f"it came {stayed_s:.0f} s ago and stays for {stay_s:.0f} s")
    if before > enough * after:
        return stay(f"the gain, {before:.3g} to {after:.3g} requests/s, is too small to load weights for")
    return Decision(
        span, f"the weakest block goes from {before:.3g} to {after:.3g} requests/s", before, after
    )


def _missing(held: Sequence[Held], num_blocks: int) -> int:
    return sum(len(span) for span in missing([(h.span.start, h.span.end) for h in held], num_blocks))
