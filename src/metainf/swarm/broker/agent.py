"""An agent: sends requests into the queue and hands each answer over once.

A request is sent until the server has said that it keeps it; the server knows its id, so that it counts once.
Answers are read from a stream, so that none is lost while the agent or the server is away.
"""

import asyncio
import contextlib
import time
from typing import Any

from metainf.domain import BadInput, MetaInfError
from metainf.hosts.tracing import CURRENT, HEADER
from metainf.swarm.broker.lengths import places
from metainf.swarm.broker.streams import (
    ACK_S,
    ANSWER,
    BELL,
    REPLIES,
    REQUESTS,
    RETRY_S,
    BrokerLost,
    Crowded,
    answer_subject,
    connected,
    prepared,
    pull,
    replicas_of,
    subject,
)
from metainf.swarm.broker.words import Job, Reply
from metainf.swarm.net.ending import ended

TAKEN = 256


class TooLate(MetaInfError):
    """No answer came before the deadline."""


class Agent:
    """Use as an asynchronous context. Two agents of one name share their answers: give each its own."""

    def __init__(self, servers: str, name: str, replicas: int | None = None) -> None:
        self.servers, self.name = servers, name
        self.replicas = replicas or replicas_of(servers)
        self.waiting: dict[str, asyncio.Future[Reply]] = {}
        self.again = 0
        """Answers that came a second time, or to nobody: read and dropped."""
        self._connection: Any = None
        self.stream: Any = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Agent":
        """Raises BrokerLost, MissingExtra."""
        from nats.js.api import ConsumerConfig

        self._connection = await connected(self.servers, f"agent {self.name}")
        self.stream = await prepared(self._connection, self.replicas)
        mine = ConsumerConfig(
            durable_name=f"agent-{self.name}", filter_subject=f"{ANSWER}.{self.name}.>", ack_wait=ACK_S
        )
        await self.stream.add_consumer(REPLIES, mine)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        failures = await ended(self._reading)
        for each in self.waiting.values():
            each.cancel()
        with contextlib.suppress(Exception):  # it may be reconnecting
            await self._connection.close()
        for failure in failures:
            raise failure

    async def ask(self, job: Job) -> Reply:
        """Send, and wait for the answer. Asking again for the same job waits for the same answer.

        Raises Crowded where too much waits already, TooLate after the deadline, BadInput for another's job.
        """
        if job.agent != self.name:
            raise BadInput(f"expected a job of agent {self.name}, found one of {job.agent}")
        answer = self.waiting.get(job.transaction)
        if answer is None:
            answer = self.waiting[job.transaction] = asyncio.get_running_loop().create_future()
        try:
            if await self._send(job):
                await self._known(job)
            left_s = job.deadline_s - time.time()
            return await asyncio.wait_for(asyncio.shield(answer), max(left_s, 0.001))
        except TimeoutError:
            raise TooLate(
                f"expected an answer to {job.transaction[:20]} before its deadline, found none"
            ) from None
        finally:
            self.waiting.pop(job.transaction, None)

    async def _known(self, job: Job) -> None:
        """A job that was sent before may have its answer already."""
        with contextlib.suppress(Exception):  # none yet, or nobody to ask: it will be read
            self._hand_over((await self.stream.get_last_msg(REPLIES, answer_subject(job))).data)

    async def _send(self, job: Job) -> bool:
        """Whether the server had it already. The trace of whoever asks goes along as a header."""
        from nats.js.errors import APIError

        data, headers = job.canonical().encode(), {"Nats-Msg-Id": job.transaction}
        if trace := CURRENT.get():
            headers[HEADER] = trace
        while True:
            try:
                kept = await self.stream.publish(subject(job), data, headers=headers, timeout=2.0)
                await self._connection.publish(f"{BELL}.{job.group}", b"")
                return bool(kept.duplicate)
            except APIError as error:
                if "maximum bytes" in str(error.description):
                    raise Crowded("the queue holds as much as it may: try later") from None
                if "maximum messages" in str(error.description):
                    raise Crowded(
                        f"too much of {job.tenant} waits for {job.group} in class {job.priority}: try later"
                    ) from None
                if error.code != 503:
                    raise BrokerLost(f"the queue refuses the request: {error.description}") from None
            except Exception:  # timeouts and lost connections: the server may or may not keep it
                pass
            if time.time() >= job.deadline_s:
                raise TooLate(f"the queue did not take {job.transaction[:20]} before its deadline")
            await asyncio.sleep(RETRY_S)

    async def _read(self) -> None:
        while True:
            try:
                mine = f"agent-{self.name}"
                found = await pull(self._connection, REPLIES, mine, TAKEN, 1.0, self._heard)
            except BrokerLost:
                await asyncio.sleep(RETRY_S)
                continue
            for message in found:
                with contextlib.suppress(Exception):
                    await message.ack()

    def _heard(self, message: Any) -> None:
        self._hand_over(message.data)

    def _hand_over(self, data: bytes) -> None:
        try:
            reply = Reply.parse(data)
        except BadInput:
            self.again += 1
            return
        answer = self.waiting.get(reply.transaction)
        if answer is None or answer.done():
            self.again += 1
        else:
            answer.set_result(reply)


async def waiting(stream: Any, group: str) -> dict[tuple[int, str], int]:
    """Jobs of a group by class and tenant, those in work included; what others wrote under names of another
    form is passed over. Raises BrokerLost."""
    try:
        told = await stream.stream_info(REQUESTS, subjects_filter=f"req.{group}.>")
    except Exception as error:
        raise BrokerLost(f"the queue does not answer: {error!r}") from None
    known = places(told.state.subjects or {})
    return {(priority, tenant): count for (_, priority, tenant), count in known.items()}
