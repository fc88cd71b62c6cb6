"""Hostile messages in the queue: subjects of any form, jobs and replies of any bytes. Whoever may write
there can waste work, but ends no consumer and no agent, and an honest request is answered afterwards."""

import asyncio
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nats", reason="needs the extra swarm")

from fuzzing_bytes import mutants

from metainf.domain import MissingExtra
from metainf.swarm.broker import consumer, streams
from metainf.swarm.broker import members as broker_members
from metainf.swarm.broker.agent import Agent, waiting
from metainf.swarm.broker.consumer import Consumer
from metainf.swarm.broker.lengths import lengths, places, queue
from metainf.swarm.broker.members import MOST_WORD_BYTES, bucket, key, members, waiting_by_group
from metainf.swarm.broker.streams import DEAD, MEMBERS, REQUESTS, BrokerLost, Crowded, connected, prepared
from metainf.swarm.broker.words import MOST_BODY, Job, Member
from metainf.swarm.host.nats import Server, program, started

GROUP, COUNT, WITHIN_S = "fuzzed", 300, 60.0
STRANGE = (
    f"req.{GROUP}.urgent.tenant", f"req.{GROUP}.1", f"req.{GROUP}.1.tenant.more", f"req.{GROUP}.-1.tenant",
    f"req.{GROUP}.3.tenant", f"req.{GROUP}.1.{'x' * 65}", f"req.{GROUP}.1.ünï", f"req.{GROUP}.٣.tenant",
)  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    try:
        program()
    except MissingExtra as error:
        pytest.skip(str(error))
    made = started(tmp_path)
    yield made
    made.stop()


def job(number: int, **told: Any) -> dict[str, Any]:
    now = time.time()
    return {
        "version": 1, "transaction": f"b2:{number:032x}", "agent": "agent", "tenant": "tenant",
        "group": GROUP, "priority": 1, "issued_s": now, "deadline_s": now + 60, "body": str(number), **told,
    }  # fmt: skip


def broken(rng: np.random.Generator, number: int) -> bytes:
    """A job with bytes changed, cut off, or with a field of another kind."""
    whole = json.dumps(job(1000 + number)).encode()
    kind = int(rng.integers(0, 4))
    if kind == 0:
        made = bytearray(whole)
        for at in rng.integers(0, len(made), int(rng.integers(1, 8))):
            made[at] ^= 1 << int(rng.integers(0, 8))
        return bytes(made)
    if kind == 1:
        return whole[: int(rng.integers(0, len(whole)))]
    if kind == 2:
        values: list[Any] = [None, -1, 1e308, "", "*", ">", "a.b", "\x00", [], {}, "x" * 5000, True, 2**70]
        fields = list(job(0))
        return json.dumps(
            job(1000 + number, **{str(rng.choice(fields)): values[int(rng.integers(0, len(values)))]})
        ).encode()
    return bytes(rng.integers(0, 256, int(rng.integers(0, 400)), dtype=np.uint8))


async def handled(asked: Job, attempt: int) -> str:
    return asked.body[:10]


def test_hostile_messages_end_no_consumer_and_no_agent(server: Server) -> None:
    rng = np.random.default_rng(11)

    async def story() -> None:
        connection = await connected(server.url, "stranger")
        stream = await prepared(connection)
        for name in STRANGE:
            await stream.publish(name, b"?")
        for number in range(COUNT):
            await stream.publish(f"req.{GROUP}.{number % 3}.tenant", broken(rng, number))
        await stream.publish(f"req.{GROUP}.1.tenant", json.dumps(job(1, body="x" * (MOST_BODY + 1))).encode())
        await stream.publish(f"req.{GROUP}.1.tenant", b"[" * 200_000)
        async with Agent(server.url, "agent") as agent, Consumer(server.url, GROUP, handled, slots=4) as one:
            for number in range(COUNT // 3):
                await stream.publish(f"rep.agent.{number}", broken(rng, number))
            reply = await agent.ask(Job.of(job(7, body="honest", deadline_s=time.time() + WITHIN_S)))
            assert reply.body == "honest"
            while await waiting(stream, GROUP):
                await asyncio.sleep(0.05)
            assert one._working is not None and not one._working.done()
        assert await waiting_by_group(stream) == {}, "what is strange makes no group look busy"
        found = await lengths(stream)
        assert found.strange == len(STRANGE) and not found.waiting
        assert found.dead > COUNT // 3, "what is no job is kept for a person"
        assert (await stream.stream_info(DEAD)).state.messages == found.dead
        await connection.close()

    asyncio.run(asyncio.wait_for(story(), WITHIN_S))


def test_what_nobody_reads_is_gone_in_the_end_and_much_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strange subject, the place of a tenant that is not heard of any more, and bytes beyond the limit."""
    monkeypatch.setattr(streams, "MOST_AGE_S", 1.0)
    monkeypatch.setattr(streams, "TWICE_S", 1.0)
    monkeypatch.setattr(consumer, "UNUSED_S", 0.5)

    async def story() -> None:
        connection = await connected(server.url, "stranger")
        stream = await prepared(connection, most_bytes=20_000)
        await stream.publish(STRANGE[0], b"?")
        async with Agent(server.url, "agent") as agent:
            with pytest.raises(Crowded, match="as much as it may"):
                await agent.ask(Job.of(job(1, body="x" * 30_000)))
            async with Consumer(server.url, GROUP, handled):
                assert (await agent.ask(Job.of(job(2)))).body == "2"
                while await stream.consumers_info(REQUESTS) or (await lengths(stream)).strange:
                    await asyncio.sleep(0.1)
                assert (await agent.ask(Job.of(job(3)))).body == "3"
        await connection.close()

    asyncio.run(asyncio.wait_for(story(), WITHIN_S))


def test_so_many_announcements_are_read_and_none_that_is_too_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_members, "MOST_MEMBERS", 3)
    told = {"group": "g", "model": "m", "slots": 1, "request_s": 1.0}

    async def story() -> None:
        from nats.js.errors import APIError

        connection = await connected(server.url, "stranger")
        kept = await bucket(await prepared(connection))
        for number in range(5):
            word = Member.of({"name": f"n{number}", **told})
            await kept.put(broker_members.key(word), word.canonical().encode())
        assert [each.name for each in await members(kept)] == ["n0", "n1", "n2"]
        with pytest.raises(APIError, match="maximum allowed"):
            await kept.put("g.n0", b"x" * (MOST_WORD_BYTES + 100))
        await connection.close()

    asyncio.run(asyncio.wait_for(story(), WITHIN_S))


def entries() -> Iterator[tuple[str, bytes]]:
    """Subjects below the consumers' bucket, and what no honest consumer writes there: broken words, whole
    ones with values of other kinds and sizes, and such as stand under another's name."""
    good = word("liar").canonical()
    for number, message in enumerate(mutants([good.encode()], COUNT, seed=12)):
        yield f"{GROUP}.liar" if number % 2 else f"{GROUP}.n{number}", message
    values: list[Any] = [
        None, -1, 0, 1e308, 5e-324, "", "*", "a.b", "\x00", [], {}, "x" * 5000, ["x"] * 500, True, 2**70,
        10**400,
    ]  # fmt: skip
    for number, (field, value) in enumerate((field, value) for field in json.loads(good) for value in values):
        name = f"v{number}"
        told = {**json.loads(good), "name": name, field: value}
        yield f"{GROUP}.{name}", json.dumps(told).encode()
    for place in (f"{GROUP}.other", GROUP, f"{GROUP}.liar.more", "x" * 300, "ünï.ж", "a/b=c", "$KV"):
        yield place, good.encode()
    yield f"{GROUP}.deep", b"[" * 100_000
    yield f"{GROUP}.none", b""


def word(name: str, **more: Any) -> Member:
    told = {"name": name, "group": GROUP, "model": "m", "slots": 1, "request_s": 0.5, "labels": ["x"]}
    return Member.of(told | more)


def test_broken_announcements_keep_no_request_from_an_honest_consumer(server: Server) -> None:
    """Nor one that says of itself what cannot be: it is passed over."""
    for name in ("torch", "transformers", "cryptography", "aiohttp"):
        pytest.importorskip(name, reason="the desk needs the extra swarm")
    from metainf.swarm.host.queued import Desk

    async def turned(asked: Job, attempt: int) -> str:
        return json.dumps({"choices": [], "echo": json.loads(asked.body)["prompt"]})

    async def story() -> None:
        async with Agent(server.url, "agent") as agent, Consumer(server.url, GROUP, turned) as one:
            kept = await bucket(agent.stream)
            connection = await connected(server.url, "stranger")
            strange = list(entries())
            for place, data in strange:
                await connection.publish(f"$KV.{MEMBERS}.{place}", data)
            for operation in ("DEL", "PURGE", "?"):
                headers = {"KV-Operation": operation}
                await connection.publish(f"$KV.{MEMBERS}.{GROUP}.{operation}", b"", headers=headers)
            await connection.flush()
            honest = word("one")
            await kept.put(key(honest), honest.canonical().encode())
            found = await members(kept)
            assert honest in found and len(found) < len(strange) // 2
            assert all(each.name != "other" for each in found), "nobody stands under another's name"
            desk = Desk(agent)
            groups = {each.name: each for each in await desk.groups()}
            assert 0 < groups[GROUP].request_s < math.inf and groups[GROUP].slots >= 1
            made = await desk.answer({"model": "m", "prompt": "honest"})
            assert made["echo"] == "honest" and one.done == 1
            await connection.close()

    asyncio.run(asyncio.wait_for(story(), WITHIN_S))


def test_a_stranger_reads_lengths_and_makes_nothing(server: Server) -> None:
    async def story() -> None:
        connection = await connected(server.url, "guest")
        stream = connection.jetstream()
        assert await lengths(stream) == queue({}, 0)
        assert (await stream.account_info()).streams == 0
        await connection.close()
        with pytest.raises(BrokerLost):
            await lengths(stream)

    asyncio.run(story())


@given(st.dictionaries(st.one_of(st.text(), st.sampled_from(STRANGE)), st.integers(0, 2**40), max_size=8))
def test_subjects_of_any_form_are_read(subjects: dict[str, int]) -> None:
    found = queue(subjects, 0)
    assert found.strange + sum(each.jobs for each in found.waiting) == sum(subjects.values())
    assert places({"req.a.0.t": 2, **dict.fromkeys(STRANGE, 1)}) == {("a", 0, "t"): 2}
