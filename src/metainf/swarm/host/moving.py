"""How a node takes its blocks, leaves them for others where the swarm gains by it, and leaves at the end."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from metainf.domain import BadInput, MetaInfError
from metainf.swarm.host.book import pause
from metainf.swarm.host.load import Busy
from metainf.swarm.host.member import Member
from metainf.swarm.host.placing import Others, Words, deciding, entering
from metainf.swarm.net.dht_words import READ_S
from metainf.swarm.net.directory import DirectoryLost, HivemindDirectory
from metainf.swarm.net.forwarding import Links
from metainf.swarm.net.node import Offer
from metainf.swarm.plan.sight import followed
from metainf.swarm.plan.table import missing
from metainf.swarm.trust.tls import serving
from metainf.swarm.words import Held, Span

LOG = logging.getLogger("metainf.swarm")
SETTLE_S = (0.5, 1.0)
"""Wait between saying where one goes and going, where words arrive at once."""
TRIES = 5
LOOK_S, STREAM_S = 1.0, 0.05
Pick = Callable[[Others, Words], Span | None]


class CannotLoad(MetaInfError):
    """Blocks that this machine could not load."""


async def enter(member: Member) -> None:
    """Choose blocks, load and serve them. Raises DirectoryLost, CannotLoad, BadInput for a taken port."""
    member.after_earlier()
    if member.told.span is None:
        await _settled(member, await entering(member))
    else:
        await member.announce()
    if member.span is None or member.stop.is_set():
        return
    await begin(member, await _loaded(member, member.span))
    text = f"ready {member.who.node} {member.span} {member.load.decode_ms:.2f} ms/block port {member.port}"
    member.say("ready", text)


async def judging(member: Member) -> None:
    """Move where that helps: at random moments, and as soon as blocks are without a holder."""
    if member.told.span is not None:
        return
    next_s, gaps = _next_s(member), 0
    while not member.stop.is_set():
        await pause(member.stop, LOOK_S * member.rng.uniform(0.7, 1.3))
        member.under_way = followed(member.under_way, member.words(), time.monotonic())
        held = [*member.others(), _mine(member)]
        lacking = missing([(each.span.start, each.span.end) for each in held], member.who.subject.num_blocks)
        gaps = gaps + 1 if lacking else 0
        if member.stop.is_set() or member.lost or (gaps < 2 and time.monotonic() < next_s):
            continue
        await _judged(member)
        next_s, gaps = _next_s(member), 0


async def leave(member: Member) -> None:
    """Take nobody new, let sessions finish within the grace, take the record back."""
    if member.nodes:
        member.state, member.target = "draining", None
        for node in member.nodes:
            node.draining = True
        if not member.overtaken:
            await member.announce()
        streams = sum(node.streams for node in member.nodes)
        member.say("draining", f"draining: {streams} sessions, {member.told.grace_s:.0f} s to finish")
        await asyncio.gather(*(_ended(member, node) for node in list(member.nodes)))
    await member.forgotten()


def _next_s(member: Member) -> float:
    return time.monotonic() + member.told.judge_s * float(member.rng.uniform(0.5, 1.5))


def _mine(member: Member) -> Held:
    assert member.span is not None
    return Held(capacity=member.capacity(), span=member.span)


async def _judged(member: Member) -> None:
    try:
        span, why = await _chosen(member)
    except Exception:  # a fault of ours must not end a node
        if not member.nodes:
            raise
        LOG.exception("an error of MetaInf's own while judging whether to move")
        await _stays(member, member.target)
        return
    if span is None:
        return
    member.say("moving", f"moving from {member.span} to {span}: {why}")
    try:
        await _moved(member, span)
        member.say("moved", f"holds {member.span} at {member.address}")
    except CannotLoad as error:
        if not member.nodes:
            raise
        member.say("warning", f"stays at {member.span}: {error}")
    finally:
        member.target = None
    await member.announce()


async def _chosen(member: Member) -> tuple[Span | None, str]:
    """Where to go, if anywhere, and why."""
    why, decide = "", deciding(member)

    def pick(others: Others, words: Words) -> Span | None:
        nonlocal why
        found = decide(others, words)
        why = found.why
        return found.span

    return await _settled(member, pick), why


async def _settled(member: Member, pick: Pick) -> Span | None:
    """Where to go, after it was announced and is still right a moment later. A node that holds nothing yet
    goes where it said last, one that does stays where it is if that does not come to rest."""
    counted, said = None, None
    for _ in range(TRIES):
        try:
            await member.book.look()
        except DirectoryLost:
            if not member.nodes:
                raise
            await _stays(member, said)
            return None
        span = await asyncio.to_thread(pick, member.others(counted), member.words())
        if span is None:
            await _stays(member, said)
            return None
        if span == said:
            return span
        counted, said = counted or member.headings(), span
        if member.nodes:
            member.target = span
        else:
            member.span = span
        await member.announce()
        await pause(member.stop, _settle_s(member))
        if member.stop.is_set():
            break
    if not member.nodes:
        return said
    await _stays(member, said)
    return None


def _settle_s(member: Member) -> float:
    """Long enough for the words of others: a server pushes them, members of a table read in rounds."""
    directory, moment_s = member.book.directory, float(member.rng.uniform(*SETTLE_S))
    if isinstance(directory, HivemindDirectory):
        return moment_s + 2 * (READ_S + directory.round_s)
    return moment_s


async def _stays(member: Member, said: Span | None) -> None:
    member.target = None
    if said is not None:
        await member.announce()


async def _moved(member: Member, span: Span) -> None:
    """Load the new blocks beside the old ones where both fit, else after them. Sessions that go through the
    old ones may finish within the grace; clients find the new ones in the directory."""
    old, before = member.nodes[-1], member.span
    assert before is not None
    fresh = None
    if len(before) + len(span) <= member.who.room:
        fresh = await _loaded(member, span)
    if fresh is None or member.told.port:
        member.state = "draining"
        await member.announce()
        await _ended(member, old)
    try:
        fresh = fresh or await _loaded(member, span)
    except CannotLoad:
        await begin(member, await _loaded(member, before))
        raise
    member.span, member.since_s = span, time.monotonic()
    member.load.tally.moves += 1
    await begin(member, fresh)
    if old in member.nodes:
        await _ended(member, old)


async def _loaded(member: Member, span: Span) -> Busy:
    who, profile, begun_s = member.who, member.who.subject.profile, time.monotonic()
    offer = Offer(
        who.node,
        who.subject.model,
        span,
        profile.dtype,
        member.told.slowness,
        profile.quantization,
        who.need.cache * len(span),
    )
    try:
        busy = await asyncio.to_thread(Busy, who.checkpoint, offer, member.load)
        member.loading_s = time.monotonic() - begun_s
        return busy
    except (MemoryError, RuntimeError) as error:
        raise CannotLoad(f"blocks {span} could not be loaded: {str(error)[:200]}") from None


async def begin(member: Member, node: Any) -> None:
    """Listen, and say so."""
    told = member.told
    host = f"[{told.host}]" if ":" in told.host and not told.host.startswith("[") else told.host
    mine, trusted = member.who.certified, member.book.trusted
    node.till = member.till
    try:
        member.port = await node.listen(f"{host}:{told.port}", serving(mine, trusted), Links(mine, trusted))
    except RuntimeError as error:
        await node.stop(0)
        raise BadInput(
            f"expected port {told.port} of {told.host} to be free: {str(error)[:200]}; take another (--port)"
        ) from None
    member.nodes.append(node)
    member.state, member.target = "online", None
    await member.announce()


async def _ended(member: Member, node: Any) -> None:
    """Refuse new sessions, let the others finish within the grace, and end."""
    node.draining = True
    end = time.monotonic() + member.told.grace_s
    while node.streams > 0 and time.monotonic() < end:
        await asyncio.sleep(STREAM_S)
    await node.stop(0)
    if node in member.nodes:
        member.nodes.remove(node)
