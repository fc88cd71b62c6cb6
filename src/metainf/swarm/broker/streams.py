"""Streams and subjects of the queue on a NATS server, and how a connection is kept."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from metainf.domain import MetaInfError, MissingExtra
from metainf.swarm.broker.words import Job
from metainf.swarm.net.servers import Servers, opened, shown

REQUESTS, REPLIES, DEAD = "METAINF_REQUESTS", "METAINF_REPLIES", "METAINF_DEAD"
ASK, ANSWER, LOST, BELL, MEMBERS = "req", "rep", "dead", "bell", "metainf-consumers"
MOST_WAITING = 10_000
"""Jobs of one tenant that may wait in one class of one group; more are refused."""
MOST_STREAM_BYTES = 2**30
"""Of all requests that wait; more are refused. Tenants name themselves, so that many small lines make a long
one."""
MOST_AGE_S = 90_000.0
"""After an hour more than a day, what nobody may read is gone: strange subjects, tenants without a consumer.
No request is to live longer than a day."""
UNUSED_S = 3600.0
"""So long the server keeps its place in a line that no consumer asks for."""
KEPT_S = 3600.0
TWICE_S = 600.0
"""For so long the server knows what it was sent, so that nothing counts twice."""
ACK_S = 10.0
"""A job that nobody speaks of for so long is given to another consumer."""
MEMBER_S, RETRY_S, CONNECT_S = 15.0, 0.2, 5.0


class BrokerLost(MetaInfError):
    """The queue does not answer."""


class Crowded(MetaInfError):
    """More waits already than may wait: try later, or elsewhere."""


def subject(job: Job) -> str:
    """Where a job waits."""
    return f"{ASK}.{job.group}.{job.priority}.{job.tenant}"


def answer_subject(job: Job) -> str:
    """Where its answer goes."""
    return f"{ANSWER}.{job.agent}.{job.transaction.replace(':', '-')}"


async def connected(servers: str | Sequence[str], name: str) -> Any:
    """A connection that comes back by itself for ever, to URLs as the directory takes them, with TLS and
    credentials. Raises BadInput, BrokerLost, MissingExtra."""
    try:
        from nats.errors import Error
    except ImportError:
        raise MissingExtra("the queue of the swarm", "swarm") from None

    async def quiet(_: Exception) -> None:
        """Lost connections are found out where something is asked."""

    try:
        found = Servers.parse(servers if isinstance(servers, str) else ",".join(servers))
        connecting = opened(
            found,
            name=name,
            error_cb=quiet,
            connect_timeout=2,
            reconnect_time_wait=RETRY_S,
            max_reconnect_attempts=-1,
        )
        return await asyncio.wait_for(connecting, CONNECT_S)
    except (TimeoutError, Error, OSError) as error:
        raise BrokerLost(f"expected a NATS server with JetStream at {hidden(servers)}: {error}") from None


def hidden(servers: str | Sequence[str]) -> str:
    """The servers without their secrets, for messages."""
    return ",".join(shown(each) for each in (servers.split(",") if isinstance(servers, str) else servers))


def replicas_of(servers: str | Sequence[str]) -> int:
    """How many servers keep each stream: three where that many are named, else one."""
    named = servers if isinstance(servers, str) else ",".join(servers)
    return Servers.parse(named).replicas


async def prepared(
    connection: Any,
    replicas: int = 1,
    most_waiting: int = MOST_WAITING,
    most_bytes: int = MOST_STREAM_BYTES,
) -> Any:
    """The streams, made where they are not there. `replicas` is 3 on a cluster of three servers. Raises
    BrokerLost, also where the server has less room than the requests may take."""
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
    from nats.js.errors import BadRequestError

    stream = connection.jetstream(timeout=5)
    common = {"storage": StorageType.FILE, "num_replicas": replicas, "duplicate_window": TWICE_S}
    wanted = [
        StreamConfig(
            name=REQUESTS,
            subjects=[f"{ASK}.>"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=most_waiting,
            max_bytes=most_bytes,
            max_age=MOST_AGE_S,
            **common,  # type: ignore[arg-type]
        ),
        StreamConfig(name=REPLIES, subjects=[f"{ANSWER}.>"], max_age=KEPT_S, allow_direct=True, **common),  # type: ignore[arg-type]
        StreamConfig(name=DEAD, subjects=[f"{LOST}.>"], max_age=24 * KEPT_S, **common),  # type: ignore[arg-type]
    ]
    try:
        for each in wanted:
            try:
                await stream.add_stream(each)
            except BadRequestError:  # it is there with other limits: those stay
                await stream.stream_info(each.name)
    except Exception as error:
        raise BrokerLost(f"the queue cannot be made ready: {error!r}") from None
    return stream


async def pull(
    connection: Any,
    stream: str,
    consumer: str,
    batch: int,
    wait_s: float = 0.0,
    heard: Callable[[Any], None] | None = None,
) -> list[Any]:
    """At most `batch` messages, those that come within `wait_s`, by default those that are there. Each is
    `heard` as soon as it comes. Raises BrokerLost."""
    asked: dict[str, Any] = {"batch": batch}
    asked |= {"expires": int(wait_s * 1e9)} if wait_s else {"no_wait": True}
    inbox, waiting = connection.new_inbox(), None
    found: list[Any] = []
    try:
        waiting = await connection.subscribe(inbox)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        await connection.publish(subject, json.dumps(asked).encode(), reply=inbox)
        while len(found) < batch:
            message = await waiting.next_msg(timeout=wait_s + 2.0)
            status = (message.headers or {}).get("Status")
            if status == "503":
                raise BrokerLost("the queue has no leader")
            if status:
                break
            found.append(message)
            if heard is not None:
                heard(message)
    except BrokerLost:
        raise
    except Exception as error:  # many kinds: timeouts, closed and draining connections
        if not found:
            raise BrokerLost(f"the queue does not answer: {error!r}") from None
    finally:
        if waiting is not None:
            with contextlib.suppress(Exception):
                await waiting.unsubscribe()
    return found
