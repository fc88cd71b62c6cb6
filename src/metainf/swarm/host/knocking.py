"""Asking a node whether it lets one in, and whether those who do are enough."""

from collections import Counter
from typing import Any

from metainf.swarm.net.completing import Replica as Asked
from metainf.swarm.net.completing import greeted
from metainf.swarm.net.stream import Stream, Terms
from metainf.swarm.plan.replicas import runs_blocks, writes
from metainf.swarm.plan.table import missing
from metainf.swarm.trust.signing import Heard
from metainf.swarm.words import Announcement, Span, Stage

OPEN_S = 5.0


async def knocked(me: str, word: Announcement, way: Any) -> None:
    """Ask whether a node lets one in. Raises StageFailed and ReplicaFailed."""
    if writes(word):
        await greeted(Asked(word.node, word.model, way), OPEN_S)
        return
    stream = Stream(_stage(word), _terms(me, word), way)
    try:
        await stream.open()
    finally:
        stream.cancel()


def _stage(word: Announcement) -> Stage:
    return Stage(node=word.node, span=word.span)


def _terms(me: str, word: Announcement) -> Terms:
    profile = word.profile
    return Terms(f"knock {me}", word.model, profile.dtype, open_s=OPEN_S, quantization=profile.quantization)


def gaps(words: list[Announcement], every: list[Announcement], first: int) -> tuple[Span, ...]:
    """Blocks from `first` on that nobody of these holds."""
    held = [(word.span.start, word.span.end) for word in words if runs_blocks(word)]
    return missing([(0, first), *held], every[0].num_blocks)


def whole(words: list[Announcement], every: list[Announcement], first: int) -> bool:
    """Whether these nodes can write a text: a replica among them, or blocks from `first` on without a gap."""
    return any(writes(word) for word in words) or not gaps(words, every, first)


def served(heard: list[Heard]) -> str:
    """The models of a swarm, in a sentence."""
    words = [each.word for each in {each.word.node: each for each in heard}.values()]
    kinds = [(word.model, word.num_blocks, word.profile.numbers) for word in words]
    nodes = Counter(kinds)
    away = Counter(kind for kind, word in zip(kinds, words, strict=True) if word.state != "online")
    if not nodes:
        return "the swarm has no nodes: start one"
    told = [
        f"{kind[0]} in {kind[2]} ({kind[1]} blocks, {count} {'node' if count == 1 else 'nodes'}"
        f"{_absent(count, away[kind])})"
        for kind, count in sorted(nodes.items())
    ]
    return f"this swarm serves {', '.join(told)}"


def _absent(count: int, away: int) -> str:
    """How many of these nodes are not online, if any."""
    if not away:
        return ""
    if count == 1:
        return ", not online"
    return f", of which {away} {'is' if away == 1 else 'are'} not online"
