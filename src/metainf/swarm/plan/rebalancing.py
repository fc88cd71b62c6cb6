"""Whether a node should leave its blocks for others, judged from what everybody announces.

A node moves only where routes get quicker, or the weakest block stronger, by enough to be worth loading
weights, never where its own blocks would be left without a holder, and not before it has stayed for a while.
Callers judge at random moments: two nodes that judge the same picture at once would both move.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from metainf.domain import BadInput
from metainf.swarm.plan.placement import choose, strengths, throughput
from metainf.swarm.plan.sight import Sight
from metainf.swarm.plan.siting import ALIKE, Newcomer, beside, site, ways
from metainf.swarm.plan.table import Floats, Ints, Table, missing
from metainf.swarm.words import Held, Span

ENOUGH = 0.75
"""Move where today's throughput is at most this share of the throughput after the move."""
STAY_S = 600.0
"""How long a node stays where it is at least, while every block has a holder."""
WORTH = 0.05
"""Move where the clients' routes get quicker by this share in the geometric mean, to which each client gives
its own ratio and none its milliseconds. Announced speeds and round trips waver by some percent, which should
move nobody; a mean that shrinks so with each move does not come back."""


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


def decide_by_routes(
    mine: Held, sight: Sight, stayed_s: float = STAY_S, loading_s: float = 0.0, stay_s: float = STAY_S
) -> Decision:
    """Judge for one node that placed itself by routes; by the weakest block where it has measured nobody.

    It goes where the quickest routes of clients beside the nodes get quicker by a clear share in the
    geometric mean, which within the time that a node stays at least (`stay_s`) also pays for the routes
    without it while it loads (`loading_s`), and where the weakest block keeps most of its strength. It also
    goes where that gets much stronger and routes no slower in that mean. Queues do not count: they come and
    go while weights are loaded, and follow who moves.
    """
    me, count = mine.capacity, sight.num_blocks
    held = [*sight.others, mine]
    new, laid, homes = sight.laid(me)
    if not len(homes):
        return decide(me.node, held, count, stayed_s, stay_s=stay_s)
    strength = strengths(sight.others, count)
    before = throughput(held, count)

    def stay(why: str) -> Decision:
        return Decision(None, why, before, before)

    if gaps := _missing(held, count):
        span = site(new, laid, strength, homes)
        moved = [*sight.others, mine.model_copy(update={"span": span})]
        filled = _missing(moved, count)
        if filled < gaps:
            after = throughput(moved, count)
            return Decision(span, f"{gaps - filled} blocks without a holder get one", before, after)
        return stay("no place fills more of the missing blocks")
    if _missing(sight.standing(), count):
        return stay("its blocks would be left without a holder while it loads others")
    if sight.somebody_moves():
        return stay("another is on its way, and one moves at a time")
    if stayed_s < stay_s:
        return stay(f"it came {stayed_s:.0f} s ago and stays for {stay_s:.0f} s")
    if missing(zip(laid.start.tolist(), laid.end.tolist(), strict=True), count):
        return stay("those that it has measured do not hold all blocks, so that routes cannot be judged")
    return _ordinary(mine, sight, (new, laid, homes), (loading_s, stay_s))


def _ordinary(
    mine: Held, sight: Sight, seen: tuple[Newcomer, Table, Ints], times_s: tuple[float, float]
) -> Decision:
    """Where all blocks have holders, also without this node, which is away for the first of two times and
    then stays for the second."""
    (new, laid, homes), (loading_s, stay_s) = seen, times_s
    me, count = mine.capacity, sight.num_blocks
    before = throughput([*sight.others, mine], count)
    away, through = ways(new, replace(laid, queue_ms=np.zeros(len(laid))), beside(new, laid, homes, own=True))
    length = min(me.memory_blocks, count)
    starts = np.arange(count - length + 1)
    there: Floats = _mean(np.minimum(away, through[starts, starts + length]))
    here = float(_mean(np.minimum(away, through[mine.span.start, mine.span.end])))
    gain, lost = np.log(here / there), float(np.log(_mean(away) / here))
    least = _least(strengths(sight.others, count), me.blocks_per_s / length, length)

    quick = (there <= here * (1 - WORTH)) & (least >= ENOUGH * before)
    quick &= gain * stay_s >= lost * loading_s
    strong = (there <= here * (1 + ALIKE)) & (before <= ENOUGH * least)
    if quick.any():
        start = int(np.lexsort((-least, np.where(quick, there, np.inf)))[0])
        why = f"routes of {len(away)} clients go from {here:.3g} to {there[start]:.3g} ms a token in the mean"
    elif strong.any():
        start = int(np.lexsort((there, np.where(strong, -least, np.inf)))[0])
        why = (
            f"the weakest block goes from {before:.3g} to {least[start]:.3g} requests/s, routes stay as quick"
        )
    else:
        why = f"the gain of routes, {here:.3g} to {there.min():.3g} ms a token, is too small to load weights"
        return Decision(None, why, before, before)
    return Decision(Span(start=start, end=start + length), why, before, float(least[start]))


def _mean(ms: Floats) -> Floats:
    """The geometric mean over the clients, the last axis."""
    found: Floats = np.exp(np.log(ms).mean(axis=-1))
    return found


def _least(strength: Floats, share: float, length: int) -> Floats:
    """For every start, the strength of the weakest block with this share more in the window from there."""
    found = []
    for start in range(len(strength) - length + 1):
        raised = strength.copy()
        raised[start : start + length] += share
        found.append(float(raised.min()))
    return np.array(found)
