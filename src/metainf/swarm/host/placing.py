"""Which blocks a node of this process takes or moves to: what it measures first, and the rule it asks."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from metainf.swarm.host.member import Member
from metainf.swarm.plan.joining import first
from metainf.swarm.plan.rebalancing import Decision, decide, decide_by_routes
from metainf.swarm.plan.sight import Sight, Ways, drawn, first_by_routes, overdue
from metainf.swarm.plan.siting import KNOWN
from metainf.swarm.words import Announcement, Held, Span

LOG = logging.getLogger("metainf.swarm")
MEASURING_S = 5.0
"""Longest wait for the round trips to others before a node takes its first blocks."""
Others = Sequence[Held]
Words = Sequence[Announcement]
"""Where the others are or go, and what they said: of the same reading of the directory."""


async def entering(member: Member) -> Callable[[Others, Words], Span]:
    """How it chooses its first blocks; the ways are measured now, and only once. By the weakest block where
    that was wished, or where the other rule fails."""
    me, count = member.capacity(), member.who.subject.num_blocks
    if member.told.place == "weakest":
        return lambda others, words: first(me, others, count)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(member.pings.some(_listening(member), KNOWN), MEASURING_S)
    ways = _ways(member)

    def pick(others: Others, words: Words) -> Span:
        try:
            return first_by_routes(me, Sight(count, others, _by_node(words), ways))
        except Exception:  # a fault of ours must not keep a node out
            LOG.exception("an error of MetaInf's own while choosing blocks by routes")
            return first(me, others, count)

    return pick


def deciding(member: Member) -> Callable[[Others, Words], Decision]:
    """How it judges whether to move, by the ways that it has measured by now."""
    told, count = member.told, member.who.subject.num_blocks
    assert member.span is not None
    mine = Held(capacity=member.capacity(), span=member.span)
    if told.place == "weakest":
        return lambda others, words: decide(
            member.who.node, [*others, mine], count, _stayed_s(member), stay_s=told.stay_s
        )
    ways, away_s = _ways(member, moving=True), member.loading_s + told.grace_s
    late = overdue(member.under_way)
    return lambda others, words: decide_by_routes(
        mine, Sight(count, others, _by_node(words), ways, late), _stayed_s(member), away_s, told.stay_s
    )


def _listening(member: Member) -> list[Announcement]:
    return [word for word in member.words() if member.who.subject.admits(word) and word.state == "online"]


def _ways(member: Member, moving: bool = False) -> Ways:
    there = {word.node for word in _listening(member)}
    rtt_ms = {node: ms for node, ms in member.pings.shortest().items() if node in there}
    return drawn(rtt_ms, member.load.prefill_ms, member.rng, moving)


def _by_node(words: Words) -> dict[str, Announcement]:
    return {word.node: word for word in words}


def _stayed_s(member: Member) -> float:
    return time.monotonic() - member.since_s
