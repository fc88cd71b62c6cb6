"""The queue in front of a swarm: asking through it, working for it, and what was left in it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from metainf.api.swarming import Manner, joined, warned
from metainf.domain import BadInput, NoFeasible
from metainf.domain.base import Frozen
from metainf.hosts.guards import guard
from metainf.hosts.openai import listen
from metainf.hosts.places import Places
from metainf.hosts.tracing import send
from metainf.swarm.broker.agent import Agent
from metainf.swarm.broker.dead import Letter, again, letters, removed
from metainf.swarm.broker.deciding import group_name
from metainf.swarm.broker.streams import connected, hidden, prepared, replicas_of
from metainf.swarm.broker.words import LONGEST_S, Member, Reply
from metainf.swarm.host.generating import Swarm
from metainf.swarm.host.metrics import listening
from metainf.swarm.host.paying import Purse
from metainf.swarm.host.queue_metrics import OfWorker
from metainf.swarm.host.queued import Desk
from metainf.swarm.host.serving import COURSE, Serving, SwarmDoor, SwarmWriter, bound
from metainf.swarm.host.traced import closing_traces
from metainf.swarm.host.working import Worker, answering
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.table import current, table
from metainf.swarm.privacy.guarding import Guard
from metainf.swarm.privacy.words import Required
from metainf.swarm.words import Demand

__all__ = ["Letter", "Offered", "Reply", "dead", "send_again", "serve", "work", "worker"]
UNKNOWN_S = 10.0
"""What a request is said to take where no route tells."""
USUAL = Demand(prompt_tokens=64, new_tokens=128)


class Offered(Frozen):
    """What a worker says of itself, and where it answers Prometheus, if it does."""

    hardware: str | None = Field(default=None, max_length=128)
    region: str | None = Field(default=None, max_length=64)
    labels: tuple[str, ...] = ()
    slots: PositiveInt = 4
    usd_per_hour: NonNegativeFloat | None = None
    most_body_bytes: PositiveInt = 4 * 2**20
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    metrics_host: str = "127.0.0.1"


async def serve(
    queue: str,
    told: Serving,
    say: Callable[[str], None],
    purse: Purse | None = None,
    *,
    required: Required | None = None,
) -> None:
    """OpenAI's API in front of the queue, until SIGTERM or SIGINT. `required` is put on every job. Raises
    BadInput, BrokerLost, NotSupported for a class that no swarm can give."""
    send("metainf-agent")
    context = told.context()
    warned(say, queue)
    guarded = Guard(required or Required())
    with bound(told) as taken, closing_traces():
        async with Agent(queue, f"agent-{os.urandom(6).hex()}") as agent:
            desk = Desk(agent, purse, told.most_body_bytes, guarded.required)
            names = sorted({group.model for group in await desk.groups()})
            say(f"through the queue at {hidden(queue)}: {', '.join(names) or 'nobody serves yet'}")
            app = desk.application([guard(told.api_key, told.public)])
            await listen(app, taken, lambda: None, told.grace_s, context)


async def worker(queue: str, swarm: Swarm, offered: Offered) -> Worker:
    """A consumer of the group of a swarm's model, to be entered."""
    writer = SwarmWriter(swarm, Places(offered.slots, 0))
    door = SwarmDoor(writer, offered.most_body_bytes)
    own = swarm.caller.guard.required
    privacy = "" if own == Required() else own.canonical()
    word = Member.of(
        {
            "name": f"worker-{os.urandom(6).hex()}",
            "group": group_name(swarm.name, offered.hardware, offered.region, privacy),
            "model": swarm.name,
            "digest": swarm.model,
            "num_blocks": swarm.num_blocks,
            "keep": own.keep,
            "request_s": await _expected_s(swarm),
            **offered.model_dump(include={"hardware", "region", "labels", "slots", "usd_per_hour"}),
        }
    )
    return Worker(queue, word, answering(door.answered, COURSE))


async def work(
    queue: str,
    join: str,
    model: str | None,
    offered: Offered,
    say: Callable[[str], None],
    manner: Manner | None = None,
    *,
    required: Required | None = None,
) -> None:
    """Answer requests of the queue with a swarm's texts, until SIGTERM or SIGINT; what was begun is finished.
    `manner` says how they go through the swarm, and how its nodes are watched; `required` is the class of
    privacy of all of them. Raises BadInput, BrokerLost, DirectoryLost, MissingExtra, NotSupported."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    send("metainf-worker")
    warned(say, join, queue)
    with closing_traces():
        async with joined(join, model, required=required, manner=manner) as swarm:
            made = await worker(queue, swarm, offered)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            async with made, _observed(made, offered):
                say(f"{made.word.name} of {made.word.group}: {swarm.name} in {offered.slots} slots")
                await stop.wait()


@asynccontextmanager
async def _observed(made: Worker, offered: Offered) -> AsyncIterator[None]:
    """With Prometheus at a port of its own, where one is named."""
    if offered.metrics_port is None:
        yield
        return
    unobserved = listening(OfWorker(made), offered.metrics_host, offered.metrics_port)
    try:
        yield
    finally:
        unobserved()


async def _expected_s(swarm: Swarm) -> float:
    try:
        await swarm.caller.let_in(swarm.model)
        words = current([each.word for each in await swarm.caller.look()], swarm.model, time.time())
        told_s = best_route(table(words), USUAL, Client()).expected_ms / 1000
        return min(max(0.001, told_s), LONGEST_S)
    except NoFeasible:
        return UNKNOWN_S


async def dead(queue: str) -> list[Letter]:
    """Requests that nobody could serve, the oldest first. Raises BrokerLost."""
    connection, stream = await _stream(queue)
    try:
        return await letters(stream)
    finally:
        await connection.close()


async def send_again(queue: str, seq: int) -> Reply:
    """Send one of them again, wait for its answer, and take it off the dead letters where it has one. Raises
    BadInput, TooLate, Crowded, BrokerLost."""
    found = {letter.seq: letter for letter in await dead(queue)}
    if seq not in found:
        raise BadInput(f"expected the number of a dead letter, one of {sorted(found)[:20]}, found {seq}")
    async with Agent(queue, f"again-{os.urandom(6).hex()}") as agent:
        reply = await agent.ask(again(found[seq], agent.name))
        if reply.error is None:
            await removed(agent.stream, found[seq])
        return reply


async def _stream(queue: str) -> tuple[Any, Any]:
    connection = await connected(queue, "dead letters")
    return connection, await prepared(connection, replicas_of(queue))
