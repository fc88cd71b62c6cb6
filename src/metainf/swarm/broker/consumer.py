"""A consumer: takes jobs of its group as it has slots free, and says what came of each.

An answer is kept by the server, under the job's id, before the job is taken off the queue. A consumer that
dies in between leaves the job to another one, which finds the answer, or gives one that the server keeps only
once.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from metainf.domain import BadInput, MetaInfError
from metainf.hosts.tracing import CURRENT, HEADER, believed
from metainf.swarm.broker.agent import waiting
from metainf.swarm.broker.deciding import Turns, fate, share, wait_s
from metainf.swarm.broker.streams import (
    ACK_S,
    ASK,
    BELL,
    LOST,
    REPLIES,
    REQUESTS,
    RETRY_S,
    UNUSED_S,
    BrokerLost,
    answer_subject,
    connected,
    prepared,
    pull,
    replicas_of,
)
from metainf.swarm.broker.words import Job, Reply
from metainf.swarm.net.ending import ended

IDLE_S = 1.0
LEAVE_S = 5.0
MOST_WHYS, MOST_LINES = 1000, 10_000
"""Reasons, and lines of tenants, that a consumer remembers."""
WAKE_S = (0.005, 0.05)
"""After a job that was given back is due: the server may be late."""
Handle = Callable[[Job, int], Awaitable[str]]


class TryAgain(MetaInfError):
    """A handler that could not do it now: the job goes back and comes again later."""


class Consumer:
    """One member of a group. `handle(job, attempt)` gives the answer's body; it raises TryAgain to have the
    job come again, another MetaInfError to answer with an error. Use as an asynchronous context."""

    def __init__(
        self,
        servers: str,
        group: str,
        handle: Handle,
        slots: int = 1,
        name: str = "consumer",
        replicas: int | None = None,
    ) -> None:
        self.servers, self.group, self.handle, self.slots = servers, group, handle, slots
        self.name, self.replicas = name, replicas or replicas_of(servers)
        self.closing = False
        self.done = self.failed = self.given_back = self.refused = 0
        self.rng = random.Random()
        self._turns = Turns()
        self._whys: dict[str, str] = {}
        """Why jobs were given back here, the newest of them."""
        self._known: set[tuple[int, str]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._bell = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Consumer":
        self._connection = await connected(self.servers, f"consumer {self.name}")
        self.stream = await prepared(self._connection, self.replicas)
        await self._connection.subscribe(f"{BELL}.{self.group}", cb=self._rung)
        self._working = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take nothing new, give back what is on its way here, finish what was begun."""
        self.closing = True
        self._bell.set()
        if self._working is not None:
            await asyncio.wait({self._working}, timeout=LEAVE_S)
        failures = await ended(self._working)
        if self._busy:
            await asyncio.wait(self._busy)
        with contextlib.suppress(Exception):  # it may be reconnecting
            await self._connection.close()
        for failure in failures:
            raise failure

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return len(self._busy)

    async def _rung(self, _: Any) -> None:
        self._bell.set()

    async def _work(self) -> None:
        while not self.closing:
            free = self.slots - len(self._busy)
            try:
                taken = await self._take(free) if free > 0 else 0
            except BrokerLost:
                await asyncio.sleep(RETRY_S)
                continue
            if (taken == 0 or free <= 0) and not self.closing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._bell.wait(), IDLE_S)
                self._bell.clear()

    async def _take(self, free: int) -> int:
        """Begin as many jobs as there are slots, in the order of classes and tenants."""
        self._bell.clear()
        queues = self._turns.order(await waiting(self.stream, self.group))
        begun = 0
        for number, (priority, tenant) in enumerate(queues):
            if begun >= free:
                break
            level = sum(1 for each, _ in queues[number:] if each == priority)
            want = min(free - begun, share(free - begun, level))
            line = await self._queue(priority, tenant)
            try:
                found = await pull(self._connection, REQUESTS, line, want)
            except BrokerLost:  # or it has forgotten a line that was not asked for
                self._known.discard((priority, tenant))
                raise
            if self.closing:
                await asyncio.gather(*(each.nak() for each in found), return_exceptions=True)
                break
            if found:
                self._turns.served(priority, tenant)
            for message in found:
                task = asyncio.create_task(self._one(message))
                self._busy.add(task)
                task.add_done_callback(self._ended)
            begun += len(found)
        return begun

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._busy.discard(task)
        self._bell.set()

    async def _queue(self, priority: int, tenant: str) -> str:
        """The server's consumer for one queue, made on first sight. All members of the group share it."""
        from nats.js.api import ConsumerConfig

        name = f"{self.group}-{priority}-{tenant}"
        if (priority, tenant) not in self._known:
            told = ConsumerConfig(
                durable_name=name,
                filter_subject=f"{ASK}.{self.group}.{priority}.{tenant}",
                ack_wait=ACK_S,
                max_ack_pending=100_000,
                inactive_threshold=UNUSED_S,
            )
            try:
                await self.stream.add_consumer(REQUESTS, told)
            except Exception as error:
                raise BrokerLost(f"the queue does not answer: {error!r}") from None
            if len(self._known) >= MOST_LINES:
                self._known.clear()
            self._known.add((priority, tenant))
        return name

    async def _one(self, message: Any) -> None:
        attempt = message.metadata.num_delivered
        alive = asyncio.create_task(self._speak_of(message))
        try:
            try:
                job = Job.parse(message.data)
            except BadInput as error:
                await self._bury(message, str(error))
                return
            await self._judged(message, job, attempt)
        except Exception:  # the server is away: the job comes again when its time is up
            self.failed += 1
        finally:
            alive.cancel()

    async def _judged(self, message: Any, job: Job, attempt: int) -> None:
        if attempt > 1 and await self._answered(job):
            await message.ack()
            return
        verdict = fate(job, attempt, time.time())
        last = self._whys.pop(job.transaction, "")
        if verdict != "run":
            last = f": {last}" if last else ""
            if verdict == "worn out":
                await self._lost(message, f"failed {attempt - 1} times{last}", f"dead {job.transaction}")
            await self._answer(message, job, attempt, error=f"{verdict}, in attempt {attempt}{last}")
            return
        CURRENT.set(believed((message.headers or {}).get(HEADER)))  # of this task, which is this job's
        try:
            body = await self.handle(job, attempt)
        except TryAgain as error:
            self._whys[job.transaction] = str(error)[:1000]
            if len(self._whys) > MOST_WHYS:
                self._whys.pop(next(iter(self._whys)))
            await self._again(message, attempt)
        except MetaInfError as error:
            await self._answer(message, job, attempt, error=str(error)[:2000])
        except Exception:
            self.failed += 1
            await self._again(message, attempt)
        else:
            await self._answer(message, job, attempt, body=body)
            self.done += 1

    async def _again(self, message: Any, attempt: int) -> None:
        """Give it back for later, and look for it then."""
        delay_s = wait_s(attempt, self.rng.random())
        self.given_back += 1
        await message.nak(delay=delay_s)
        for late_s in WAKE_S:
            asyncio.get_running_loop().call_later(delay_s + late_s, self._bell.set)

    async def _answer(
        self, message: Any, job: Job, attempt: int, body: str | None = None, error: str | None = None
    ) -> None:
        reply = Reply(
            transaction=job.transaction, consumer=self.name, attempt=attempt, body=body, error=error
        )
        headers = {"Nats-Msg-Id": f"reply {job.transaction}"}
        while True:
            try:
                data = reply.canonical().encode()
                await self.stream.publish(answer_subject(job), data, headers=headers, timeout=2.0)
                break
            except Exception:
                if time.time() > job.deadline_s + ACK_S:
                    raise
                await asyncio.sleep(RETRY_S)
        self.refused += error is not None
        await message.ack()

    async def _answered(self, job: Job) -> bool:
        from nats.js.errors import NotFoundError

        try:
            await self.stream.get_last_msg(REPLIES, answer_subject(job))
        except NotFoundError:
            return False
        return True

    async def _bury(self, message: Any, why: str) -> None:
        """Keep what is no job, and take it off the queue."""
        await self._lost(message, why)
        await message.term()

    async def _lost(self, message: Any, why: str, once: str | None = None) -> None:
        """Keep what nobody could serve, for a person to look at; what has the same name `once` only."""
        headers = {"Metainf-Why": " ".join(why.split())[:500]}
        named = {} if once is None else {"Nats-Msg-Id": once}
        await self.stream.publish(f"{LOST}.{self.group}", message.data, headers={**headers, **named})

    async def _speak_of(self, message: Any) -> None:
        """Tell the server that the job is being worked on."""
        while True:
            await asyncio.sleep(ACK_S / 3)
            with contextlib.suppress(Exception):
                await message.in_progress()
