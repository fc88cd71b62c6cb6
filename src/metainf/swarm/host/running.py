"""A node as a process: it recognises and measures its machine, takes blocks, announces itself, moves where
the swarm gains by it, and drains when told to stop.

python -m metainf.swarm.host.running '{"checkpoint": ..., "join": "nats://...", ...}'
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MetaInfError
from metainf.hosts.tracing import flush, send
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.book import Book, guest, keep_reading
from metainf.swarm.host.load import Load
from metainf.swarm.host.measuring import Circumstances, here, measured
from metainf.swarm.host.member import Member, Say, Who
from metainf.swarm.host.metrics import OfNode, listening
from metainf.swarm.host.moving import enter, judging, leave
from metainf.swarm.host.sizing import budget, need
from metainf.swarm.host.told import Said, Told
from metainf.swarm.net.directory import HivemindDirectory, joined
from metainf.swarm.net.ending import ended
from metainf.swarm.plan.joining import GIB, Subject, fitting
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity, kept
from metainf.swarm.words import Profile

__all__ = ["Book", "Overtaken", "Said", "Told", "guest", "run", "serve"]


class Overtaken(MetaInfError):
    """Another process of the same identity has taken this one's place."""


async def serve(told: Told, say: Say, stop: asyncio.Event) -> None:
    """Run one node until `stop`, from its first look at the directory to its last.

    Raises DirectoryLost where there is no directory at the start, BadInput and CannotLoad for what cannot be
    served, Overtaken where another process takes the same identity.
    """
    member = await _prepared(told, say)
    member.stop = stop
    unobserved = observed(member)
    try:
        await enter(member)
        await lived(member, stop, judging(member))
    finally:
        stop.set()
        await leave(member)
        await member.book.directory.close()
        unobserved()
    parted(member)


async def lived(member: Member, stop: asyncio.Event, watching: Coroutine[Any, Any, None]) -> None:
    """What a member does from when it has entered until `stop`, `watching` besides."""
    if isinstance(member.book.directory, HivemindDirectory):
        member.say("join", f"join {member.book.directory.join_address}")
    doing = (keep_reading(member.book, stop), member.speaking(), member.pinging(), watching)
    tasks = [asyncio.create_task(each) for each in doing]
    try:
        await until(stop, tasks)
    finally:
        stop.set()
        await ended(*tasks)


def parted(member: Member) -> None:
    """The last word of a member that has left. Raises Overtaken where it had to."""
    if member.overtaken:
        raise Overtaken(f"{member.who.node} runs elsewhere now: give every node an identity of its own")
    member.say("left", "left")


def observed(member: Member) -> Callable[[], None]:
    """Answer Prometheus where that was asked for; gives what ends it. Raises BadInput, MissingExtra."""
    if member.told.metrics_port is None:
        return lambda: None
    return listening(OfNode(member), member.told.metrics_host, member.told.metrics_port)


async def until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for `stop`; an error that no task expected ends the node."""
    stopped = asyncio.create_task(stop.wait())
    waiting: set[asyncio.Task[object]] = {stopped, *tasks}
    while not stopped.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()


async def _prepared(told: Told, say: Say) -> Member:
    """Everything that is known before blocks are chosen."""
    identity = kept(Path(told.identity)) if told.identity else Identity(os.urandom(SEED_BYTES))
    checkpoint = Checkpoint(Path(told.checkpoint))
    profile = Profile(dtype="float32", quantization=told.quantization)
    one, room = need(checkpoint, profile, told.cache_tokens), budget(told.memory_gib)
    fit = fitting(room, one)
    fit = min(fit, told.memory_blocks or fit)
    _check_span(told, checkpoint.num_blocks, (fit, one.bytes))
    book = Book(await joined(told.join, identity))
    try:
        model, hardware = await asyncio.to_thread(checkpoint.digest), here()
        circumstances = Circumstances(hardware, model, profile, told.threads)
        cache = None if told.cache is None else Path(told.cache)
        speed, now = await measured(checkpoint, circumstances, fit, cache, told.measure_again)
        subject = Subject(model, checkpoint.num_blocks, profile)
        certified = certify(identity, time.time())
        who = Who(identity, certified, checkpoint, subject, fit, one, hardware)
        member = Member(told, who, book, Load.at_rest(speed, told.slowness), say)
        await book.look()
    except BaseException:
        await book.directory.close()
        raise
    ms, how = member.load.decode_ms, "measured now" if now else "as measured before"
    member.say("measured", f"{hardware}: {ms:.3g} ms/block ({how}), room for {member.most} blocks")
    member.judge_way()
    member.judge_clock()
    return member


def _check_span(told: Told, num_blocks: int, room: tuple[int, int]) -> None:
    fit, size = room
    if told.span is None:
        return
    if told.span.end > num_blocks:
        raise BadInput(f"expected a span within [0, {num_blocks}), found {told.span}")
    if len(told.span) > fit:
        raise BadInput(
            f"expected memory for the {len(told.span)} blocks {told.span}, "
            f"{len(told.span) * size / GIB:.3g} GiB, found room for {fit}: "
            "take fewer (--span) or give more (--memory-gib)"
        )


def run(told: Told, say: Say) -> None:
    """Run one node in this process until SIGTERM or SIGINT; a second one ends it at once."""
    import torch

    torch.set_num_threads(told.threads)
    asyncio.run(until_told(lambda stop: serve(told, say, stop)))


async def until_told(serving: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends this process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(each, end, int(each))
    send("metainf-node")
    try:
        await serving(stop)
    finally:
        flush()


if __name__ == "__main__":
    try:
        run(Told.parse(sys.argv[1]), lambda said: print(said.text, flush=True))
    except MetaInfError as error:
        sys.exit(str(error))
