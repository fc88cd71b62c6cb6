"""Which blocks a node of this process takes or moves to: what it measures first, and the rule it asks."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from metainf.swarm.host.member import Member
from metainf.swarm.plan.joining import first
from metainf.swarm.plan.rebalancing import Decision, decide, decide_by_routes
from metainf.swarm.plan.sight import Sight, Ways, drawn, first_by_routes
from metainf.swarm.plan.siting import KNOWN
from metainf.swarm.words import Announcement, Held, Span

MEASURING_S = 5.0
"""Longest wait for the round trips to others before a node takes its first blocks."""


async def entering(member: Member) -> Callable[[Sequence[Held]], Span]:
    """How it chooses its first blocks; the ways are measured now, and only once."""
    me, count = member.capacity(), member.who.subject.num_blocks
    if member.told.place == "weakest":
        return lambda others: first(me, others, count)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(member.pings.some(_listening(member), KNOWN), MEASURING_S)
    ways = _ways(member)
    return lambda others: first_by_routes(me, _sight(member, others, ways))


def deciding(member: Member) -> Callable[[Sequence[Held]], Decision]:
    """How it judges whether to move, by the ways that it has measured by now."""
    told, count = member.told, member.who.subject.num_blocks
    assert member.span is not None
    mine = Held(capacity=member.capacity(), span=member.span)
    if told.place == "weakest":
        return lambda others: decide(
            member.who.node, [*others, mine], count, _stayed_s(member), stay_s=told.stay_s
        )
    ways, away_s = _ways(member, moving=True), member.loading_s + told.grace_s
    return lambda others: decide_by_routes(
        mine, _sight(member, others, ways), _stayed_s(member), away_s, told.stay_s
    )


def _listening(member: Member) -> list[Announcement]:
    return [word for word in member.words() if member.who.subject.admits(word) and word.state == "online"]


def _ways(member: Member, moving: bool = False) -> Ways:
    there = {word.node for word in _listening(member)}
    rtt_ms = {node: ms for node, ms in member.pings.shortest().items() if node in there}
    return drawn(rtt_ms, member.load.prefill_ms, member.rng, moving)


def _sight(member: Member, others: Sequence[Held], ways: Ways) -> Sight:
    words = {word.node: word for word in member.words()}
    return Sight(member.who.subject.num_blocks, others, words, ways)


def _stayed_s(member: Member) -> float:
    return time.monotonic() - member.since_s
