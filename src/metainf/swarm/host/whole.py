"""A replica as a process: an engine holds the whole model, the node stands before it with its identity.

The engine is started, measured, and watched: where it dies the node withdraws its word until another runs,
and leaves where none comes up.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from metainf.domain import BadInput, MetaInfError
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.book import Book, pause
from metainf.swarm.host.engine import Child, Start, WholeLoad, measured
from metainf.swarm.host.member import Member, Say, Who
from metainf.swarm.host.moving import begin, leave
from metainf.swarm.host.repertoire import Repertoire
from metainf.swarm.host.running import lived, observed, parted, until_told
from metainf.swarm.host.told import Told
from metainf.swarm.net.changing import Obeying
from metainf.swarm.net.directory import joined
from metainf.swarm.net.replica import ReplicaNode, WholeOffer
from metainf.swarm.plan.joining import Need, Subject
from metainf.swarm.plan.replicas import ENDPOINT
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity, kept
from metainf.swarm.words import MOST_LABELS, Span

WATCH_S, RESTARTS, LIVED_S = 0.25, 3, 60.0
"""An engine that ends so many times in a row, each within LIVED_S, is not started again."""


class EngineLost(MetaInfError):
    """An engine that ends again and again."""


async def serve(
    told: Told, start: Start, say: Say, stop: asyncio.Event, others: Sequence[Start] = ()
) -> None:
    """Run one replica until `stop`; it may change to one of the `others`.

    Raises DirectoryLost where there is no directory at the start, BadInput, EngineEnded and NotReady where
    the engine does not come up, EngineLost where it dies again and again, Overtaken where another process
    takes the same identity."""
    child = Child(start)
    member, unobserved = None, _nothing
    try:
        member, node, repertoire = await _prepared(told, (start, *others), child, say)
        member.stop = stop
        unobserved = observed(member)
        member.after_earlier()
        await begin(member, node)
        features = f"{member.load.decode_ms * member.who.subject.num_blocks:.3g} ms/token"
        member.say("ready", f"ready {member.who.node} {member.span} {features} port {member.port}")
        await lived(member, stop, _watching(member, repertoire, child))
    finally:
        stop.set()
        if member is not None:
            await leave(member)
            await member.book.directory.close()
        await child.stop()
        unobserved()
    parted(member)


def _nothing() -> None:
    """Nobody observes it yet."""


async def _prepared(
    told: Told, starts: Sequence[Start], child: Child, say: Say
) -> tuple[Member, ReplicaNode, Repertoire]:
    """The engine runs and is measured, and nothing is announced yet."""
    start = starts[0]
    if len(told.labels) >= MOST_LABELS:
        raise BadInput(f"expected at most {MOST_LABELS - 1} labels of a replica, found {len(told.labels)}")
    identity = kept(Path(told.identity)) if told.identity else Identity(os.urandom(SEED_BYTES))
    checkpoint = Checkpoint(Path(told.checkpoint))
    count = checkpoint.num_blocks
    whole = Span(start=0, end=count)
    told = told.model_copy(update={"labels": (*told.labels, ENDPOINT), "span": whole})
    book = Book(await joined(told.join, identity))
    try:
        model = await asyncio.to_thread(checkpoint.digest)
        door = await child.start()
        assert child.served is not None
        speed = await measured(child.served.endpoint, count)
        subject = Subject(model, count, start.profile)
        none = Need(0, 0)  # the engine sees to its own memory
        certified = certify(identity, time.time())
        who = Who(identity, certified, checkpoint, subject, count, none, start.hardware)
        load = WholeLoad(speed.decode_ms_per_block, speed.prefill_ms_per_token_block, num_blocks=count)
        node = ReplicaNode(WholeOffer(who.node, model, start.places, start.context_tokens), load)
        node.door, load.places = door, node.places
        repertoire = Repertoire(starts, speed, node)
        load.says, node.change = repertoire.writing, repertoire.wish
        node.obeying = Obeying(who.node, told.obey, tuple(repertoire.starts)) if told.obey else None
        member = Member(told, who, book, load, say)
        await book.look()
    except BaseException:
        await book.directory.close()
        raise
    member.say("engine", start.how)
    token_ms, prompt_ms = speed.decode_ms_per_block * count, speed.prefill_ms_per_token_block * count
    member.say(
        "measured",
        f"{start.hardware}: {start.profile.engine} writes a token in {token_ms:.3g} ms and reads one in "
        f"{prompt_ms:.3g} ms, {start.places} texts at once of {start.context_tokens} tokens",
    )
    member.judge_way()
    member.judge_clock()
    return member, node, repertoire


async def _watching(member: Member, repertoire: Repertoire, child: Child) -> None:
    """Start the engine anew where it ended, and say meanwhile that the node does not serve. Change the method
    where that is wished."""
    node = repertoire.node
    failures, since_s = 0, time.monotonic()
    while not member.stop.is_set():
        await pause(member.stop, WATCH_S)
        if member.stop.is_set():
            continue
        if not child.ended:
            await repertoire.changed(member, child)
            continue
        failures = failures + 1 if time.monotonic() - since_s < LIVED_S else 1
        node.door, member.state = None, "joining"
        await member.announce()
        if failures > RESTARTS:
            raise EngineLost(
                f"the engine ended {failures} times within {LIVED_S:.0f} s each: see its settings"
            )
        member.say("warning", "the engine ended: it is started again, and nothing is served meanwhile")
        await child.stop()
        try:
            node.door = await child.start()
        except MetaInfError as error:
            member.say("warning", f"the engine did not start: {error}")
            continue
        since_s, member.state = time.monotonic(), "online"
        await member.announce()
        member.say("ready", f"ready {member.who.node} {member.span} again, port {member.port}")


def run(told: Told, start: Start, say: Say, others: Sequence[Start] = ()) -> None:
    """Run one replica in this process until SIGTERM or SIGINT; a second one ends it at once."""
    asyncio.run(until_told(lambda stop: serve(told, start, say, stop, others)))
