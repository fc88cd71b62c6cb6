"""Hostile messages to a replica and from one: neither it nor its client ends, and a good text follows."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

for needed in ("torch", "transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(needed, reason="needs the extra swarm")

import grpc  # noqa: E402
from fuzzing_bytes import mutants  # noqa: E402

from metainf.swarm.host.engine import WholeLoad  # noqa: E402
from metainf.swarm.net import wire_pb2 as wire  # noqa: E402
from metainf.swarm.net.changing import NotChanged, Obeying, asked_to_change, wish  # noqa: E402
from metainf.swarm.net.completing import (  # noqa: E402
    COMPLETE,
    SPARE_EVENTS,
    Event,
    Replica,
    ReplicaFailed,
    Request,
    ask,
    completed,
    event_message,
    greeted,
)
from metainf.swarm.net.replica import ReplicaNode, WholeOffer  # noqa: E402
from metainf.swarm.trust.certificates import certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.trust.tls import channel, serving  # noqa: E402

COUNT = int(os.environ.get("METAINF_FUZZ", "2000"))
MODEL, METHODS = "b2:" + "0" * 32, ("fp8", "bf16")
VALUES: tuple[Any, ...] = (None, "", -1, 0, 1, 2**70, 1.5, 1e308, True, [], {}, [[]], [-1], [2**40] * 600)
"""Of other kinds and sizes than a field has."""
REQUEST = Request(prompt=(5, 17, 3), max_tokens=4, seed=1)
SAID = [Event(text="a"), Event(text="b"), Event(text="c", finished="stop", output_tokens=3)]


class Typist:
    """An engine that writes the same whatever it is asked."""

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        for event in SAID:
            yield event


@asynccontextmanager
async def standing(
    answers: Callable[[bytes, Any], Any] | None = None,
) -> AsyncIterator[tuple[ReplicaNode, Replica, Identity]]:
    """A replica that obeys somebody; with `answers` in place of all that it would say."""
    identity, boss = Identity(b"r" * 32), Identity(b"b" * 32)
    card, mine = certify(identity, time.time()), certify(Identity(b"c" * 32), time.time())
    node = ReplicaNode(WholeOffer(identity.node, MODEL, 2, 512), WholeLoad(1.0, 0.0, num_blocks=4))
    node.door, node.obeying = Typist(), Obeying(identity.node, (boss.node,), METHODS)
    if answers is not None:
        node._complete = answers  # type: ignore[method-assign]
    port = await node.listen("127.0.0.1:0", serving(card, lambda: mine.pem))
    way = channel(f"127.0.0.1:{port}", identity.node, card.der, mine)
    try:
        yield node, Replica(identity.node, MODEL, way), boss
    finally:
        await way.close()
        await node.stop(0)


def asking(request: bytes) -> bytes:
    """A whole message about a broken request."""
    return bytes(wire.ToNode(ask=wire.Ask(version=1, model=MODEL, request=request)).SerializeToString())


def wishing(change: bytes) -> bytes:
    """A whole message about a broken wish."""
    told = wire.Change(version=1, change=change.decode("utf-8", "replace"))
    return bytes(wire.ToNode(change=told).SerializeToString())


def saying(event: bytes) -> bytes:
    """A whole message about a broken piece of text."""
    return bytes(wire.FromNode(event=wire.Event(data=event)).SerializeToString())


async def first_answer(way: Any, message: bytes) -> Any:
    """A message, the end (None), or the status with which the call ended."""
    call = way.unary_stream(COMPLETE)(message)
    try:
        answer = await asyncio.wait_for(call.read(), 20)
        return wire.FromNode.FromString(answer) if isinstance(answer, bytes) else None
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        call.cancel()


def test_broken_requests_and_wishes_end_no_replica() -> None:
    async def story() -> None:
        async with standing() as (node, replica, boss):
            changes: list[str] = []
            node.change = changes.append
            wishes = [wish(boss, replica.node, each, time.time() + at) for at, each in enumerate(METHODS)]
            good = [ask(MODEL, REQUEST), ask(MODEL, None), *wishes]
            kinds, few = set(), COUNT // 8
            inside = [*map(asking, mutants([REQUEST.canonical().encode()], few, seed=23))]
            fields = json.loads(REQUEST.canonical())
            others = [{**fields, name: value} for name in fields for value in VALUES]
            inside += [asking(json.dumps(each).encode()) for each in others]
            text = wire.ToNode.FromString(wishes[0]).change.change.encode()
            inside += map(wishing, mutants([text], few, seed=24))
            for message in (*mutants(good, 2 * few, seed=21), *inside):
                answer = await first_answer(replica.channel, message)
                kind = answer if not isinstance(answer, wire.FromNode) else answer.WhichOneof("kind")
                assert kind in ("event", "refusal", "changing"), f"{kind} for {message[:60]!r}"
                kinds.add(kind)
            assert {"event", "refusal"} <= kinds
            assert len(changes) <= len(METHODS) and set(changes) <= set(METHODS), "each wish counts once"
            assert [each async for each in completed(replica, REQUEST)] == SAID
            later = wish(boss, replica.node, "fp8", time.time() + 10)
            await asked_to_change(replica.channel, later)
            assert changes[-1] == "fp8" and (node.streams, node.waiting_tokens) == (0, 0)

    asyncio.run(story())


def test_a_client_survives_a_replica_that_answers_garbage() -> None:
    """Each text fails, or is of pieces that may be; each wish is promised, or is not."""
    promise = bytes(wire.FromNode(changing=wire.Changing(method="fp8")).SerializeToString())
    sent: list[bytes] = []

    async def answers(message: bytes, context: Any) -> None:
        for each in sent:
            await context.write(each)

    async def story() -> None:
        async with standing(answers) as (_, replica, boss):
            good, failed = [event_message(each) for each in SAID], 0
            last, few = SAID[-1].canonical().encode(), COUNT // 8
            broken = [*mutants([*good, promise], few, seed=22), *map(saying, mutants([last], few, seed=25))]
            for number, message in enumerate(broken):
                sent[:] = [*good[: number % 3], message]
                try:
                    pieces = [each async for each in completed(replica, REQUEST)]
                    assert pieces[-1].finished and len(pieces) <= REQUEST.max_tokens + SPARE_EVENTS
                except ReplicaFailed as error:
                    failed += 1
                    assert len(str(error)) < 500
                sent[:] = [message]
                with contextlib.suppress(ReplicaFailed):
                    await greeted(replica, 10.0)
                with contextlib.suppress(NotChanged):
                    await asked_to_change(replica.channel, wish(boss, replica.node, "fp8", time.time()))
            assert few < failed < 2 * few
            sent[:] = good
            assert [each async for each in completed(replica, REQUEST)] == SAID

    asyncio.run(story())
