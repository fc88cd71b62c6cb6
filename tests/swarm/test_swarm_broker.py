"""The queue on a real NATS server: nothing is lost, nothing counts twice, urgent first, everybody in turn."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="needs the extra swarm")

from metainf.domain import BadInput, MissingExtra, NotSupported
from metainf.swarm.broker import deciding
from metainf.swarm.broker.agent import Agent, TooLate, waiting
from metainf.swarm.broker.consumer import Consumer, TryAgain
from metainf.swarm.broker.streams import DEAD, REPLIES, REQUESTS, BrokerLost, Crowded, connected, prepared
from metainf.swarm.broker.words import Job
from metainf.swarm.host.nats import Server, cluster, free_ports, program, started

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from broker_chaos import Plan, kept_twice, play
from broker_parts import GROUP, answer, job
from nats_cluster import ready


@pytest.fixture(scope="module", autouse=True)
def _program() -> None:
    try:
        program()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = started(tmp_path)
    yield made
    made.stop()


async def turned(asked: Job, attempt: int) -> str:
    return answer(asked.body)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_requests_are_answered_each_with_its_own_answer(server: Server) -> None:
    async def test() -> None:
        async with Agent(server.url, "one") as one, Agent(server.url, "two") as two:
            async with (
                Consumer(server.url, GROUP, turned, slots=8),
                Consumer(server.url, GROUP, turned, slots=8),
            ):
                asked = [job(number, agent.name) for number in range(40) for agent in (one, two)]
                agents = {"one": one, "two": two}
                replies = await asyncio.gather(*(agents[each.agent].ask(each) for each in asked))
            assert [reply.body for reply in replies] == [answer(each.body) for each in asked]
            assert {reply.error for reply in replies} == {None}
            assert (one.again, two.again) == (0, 0)

    run(test)


def test_a_job_that_is_sent_twice_is_done_once(server: Server) -> None:
    done: list[str] = []

    async def counted(asked: Job, attempt: int) -> str:
        done.append(asked.body)
        return answer(asked.body)

    async def test() -> None:
        async with Consumer(server.url, GROUP, counted):
            async with Agent(server.url, "agent") as agent:
                first = await agent.ask(job(1, "agent"))
                second = await agent.ask(job(1, "agent"))
            async with Agent(server.url, "agent") as later:
                third = await later.ask(job(1, "agent"))
        assert first == second == third
        assert done == ["request 1"]

    run(test)


def test_an_urgent_request_overtakes_those_that_wait(server: Server) -> None:
    order: list[int] = []
    gate = asyncio.Event()

    async def slow(asked: Job, attempt: int) -> str:
        await gate.wait()
        order.append(asked.priority)
        return ""

    async def test() -> None:
        async with Agent(server.url, "agent") as agent, Consumer(server.url, GROUP, slow):
            patient = [asyncio.create_task(agent.ask(job(number, "agent", 2))) for number in range(100)]
            await asyncio.sleep(0.5)
            urgent = asyncio.create_task(agent.ask(job(1000, "agent", 0)))
            await asyncio.sleep(0.2)
            gate.set()
            await asyncio.gather(urgent, *patient)
        assert order[0] == 2  # it held the slot already
        assert order[1] == 0

    run(test)


def test_a_tenant_with_much_does_not_keep_others_waiting(server: Server) -> None:
    order: list[str] = []

    async def told(asked: Job, attempt: int) -> str:
        order.append(asked.tenant)
        return ""

    async def test() -> None:
        async with Agent(server.url, "agent") as agent:
            asked = [job(number, "agent", tenant="many") for number in range(100)]
            asked += [job(100 + number, "agent", tenant="few") for number in range(5)]
            sent = [asyncio.create_task(agent.ask(each)) for each in asked]
            while sum((await waiting(agent.stream, GROUP)).values()) < len(asked):
                await asyncio.sleep(0.05)
            async with Consumer(server.url, GROUP, told, slots=2):
                await asyncio.gather(*sent)
        assert max(at for at, tenant in enumerate(order) if tenant == "few") < 25

    run(test)


def test_failures_come_again_and_in_the_end_are_kept_for_a_person(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "FIRST_S", 0.01)
    attempts: dict[str, int] = {}

    async def moody(asked: Job, attempt: int) -> str:
        attempts[asked.body] = attempt
        if asked.body == "request 1" and attempt < 3:
            raise TryAgain("not now")
        if asked.body == "request 2":
            raise ValueError("a mistake in the handler")
        if asked.body == "request 3":
            raise NotSupported("this model draws no pictures")
        return answer(asked.body)

    async def test() -> None:
        async with Agent(server.url, "agent") as agent, Consumer(server.url, GROUP, moody, slots=4):
            first, second, third = await asyncio.gather(*(agent.ask(job(n, "agent")) for n in (1, 2, 3)))
            assert (first.body, first.attempt) == (answer("request 1"), 3)
            assert second.error == f"worn out, in attempt {deciding.MOST_ATTEMPTS + 1}"
            assert third.error == "this model draws no pictures"
            told = await agent.stream.stream_info(DEAD, subjects_filter=">")
            assert told.state.messages == 1
        assert attempts["request 2"] == deciding.MOST_ATTEMPTS

    run(test)


def test_deadlines_limits_and_strangers(server: Server) -> None:
    async def test() -> None:
        connection = await connected(server.url, "limits")
        await prepared(connection, most_waiting=3)
        await connection.close()
        async with Agent(server.url, "agent") as agent:
            begun = time.monotonic()
            with pytest.raises(TooLate, match="before its deadline"):
                await agent.ask(job(1, "agent", within_s=0.3))
            assert time.monotonic() - begun < 30
            with pytest.raises(BadInput, match="a job of agent agent, found one of other"):
                await agent.ask(job(2, "other"))
            sent = [asyncio.create_task(agent.ask(job(number, "agent"))) for number in (3, 4)]
            await asyncio.sleep(0.3)
            with pytest.raises(Crowded, match="try later"):
                await agent.ask(job(5, "agent"))
            assert await waiting(agent.stream, GROUP) == {(1, "tenant"): 3}
            async with Consumer(server.url, GROUP, turned):
                assert [reply.body for reply in await asyncio.gather(*sent)] == ["3 tseuqer", "4 tseuqer"]
            stream = agent.stream
            late = await stream.get_last_msg(
                REPLIES, f"rep.agent.{job(1, 'agent').transaction.replace(':', '-')}"
            )
            assert b"expired" in late.data

    run(test)


def test_what_is_no_job_is_kept_for_a_person(server: Server) -> None:
    async def test() -> None:
        connection = await connected(server.url, "garbage")
        stream = await prepared(connection)
        for garbage in (b"", b"\xff\x00", b"{}", b'{"version": 9}', b"[" * 5000):
            await stream.publish(f"req.{GROUP}.1.tenant", garbage)
        async with Agent(server.url, "agent") as agent, Consumer(server.url, GROUP, turned, slots=2):
            assert (await agent.ask(job(1, "agent"))).body == "1 tseuqer"
            while (await stream.stream_info(DEAD)).state.messages < 5:
                await asyncio.sleep(0.05)
            assert await waiting(stream, GROUP) == {}
        await connection.close()

    run(test)


def test_a_server_that_is_away_is_waited_for(server: Server) -> None:
    async def test() -> None:
        async with Agent(server.url, "agent") as agent, Consumer(server.url, GROUP, turned):
            await agent.ask(job(1, "agent"))
            server.kill()
            sent = asyncio.create_task(agent.ask(job(2, "agent")))
            await asyncio.sleep(0.5)
            assert not sent.done()
            await asyncio.to_thread(server.start)
            assert (await sent).body == "2 tseuqer"

    run(test)


def test_no_server_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(BrokerLost, match="expected a NATS server with JetStream at"):
            async with Agent(f"nats://127.0.0.1:{free_ports(1)[0]}", "agent"):
                pass

    run(test)


def test_a_binary_that_nobody_knows_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    (tmp_path / "nats-server").write_bytes(b"#!/bin/sh\nexit 0\n")
    with pytest.raises(BadInput, match="is not known"):
        program()
    monkeypatch.setenv("METAINF_NATS_SERVER", str(tmp_path / "nats-server"))
    assert program() == tmp_path / "nats-server"
    monkeypatch.setenv("METAINF_NATS_SERVER", str(tmp_path / "none"))
    with pytest.raises(BadInput, match="found no file"):
        program()


def test_nothing_is_lost_or_kept_twice_while_servers_and_consumers_are_killed(server: Server) -> None:
    plan = Plan(requests=1500, at_once=100, consumers=2, kill_s=0.4, work_s=0.02, within_s=120)
    came = asyncio.run(asyncio.wait_for(play([server], plan), 150))
    assert (came.answered, came.lost, came.wrong, came.twice) == (1500, 0, 0, 0), came.errors[:3]
    assert came.servers_killed + came.consumers_killed >= 1


async def settled(servers: list[Server]) -> Server:
    """Streams on all three servers, once these have chosen who leads; gives one that leads no stream."""
    connection = await ready(servers)
    stream = await prepared(connection, 3)
    told = [await stream.stream_info(name) for name in (REQUESTS, REPLIES)]
    assert [(each.config.num_replicas, len(each.cluster.replicas)) for each in told] == [(3, 2)] * 2
    await connection.close()
    leaders = {each.cluster.leader for each in told}
    return next(each for number, each in enumerate(servers) if f"server-{number}" not in leaders)


async def led_by_another(agent: Agent, name: str) -> None:
    """The places of the agent and of its group in their streams: a new leader takes seconds to be chosen."""
    for stream, place in ((REPLIES, "agent-agent"), (REQUESTS, f"{GROUP}-1-tenant")):
        while (await agent.stream.consumer_info(stream, place)).cluster.leader == name:
            down = f"$JS.API.CONSUMER.LEADER.STEPDOWN.{stream}.{place}"
            await agent._connection.request(down, b"", timeout=2)
            await asyncio.sleep(0.1)


def test_three_servers_lose_nothing_when_one_is_killed(tmp_path: Path) -> None:
    """Every stream is on all three; agent and consumer are connected to the one that dies for good."""
    servers, asked = cluster(tmp_path), [job(number, "agent", within_s=60) for number in range(48)]
    begun, killed = list[str](), asyncio.Event()

    async def held(one: Job, attempt: int) -> str:
        begun.append(one.body)
        if len(begun) > 8:
            await killed.wait()
        return answer(one.body)

    async def test() -> None:
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in servers))
        dying = await settled(servers)
        async with (
            Agent(dying.url, "agent", 3) as agent,
            Consumer(dying.url, GROUP, held, slots=4, replicas=3) as one,
        ):
            sent = [asyncio.create_task(agent.ask(each)) for each in asked[:32]]
            while len(begun) < 12:
                await asyncio.sleep(0.01)
            await led_by_another(agent, f"server-{servers.index(dying)}")
            await asyncio.to_thread(dying.kill)
            killed.set()
            sent += [asyncio.create_task(agent.ask(each)) for each in asked[32:]]
            replies = await asyncio.gather(*sent)
            ports = {each._connection.connected_url.port for each in (agent, one)}
        assert [reply.body for reply in replies] == [answer(each.body) for each in asked]
        assert dying.port not in ports, "they have found the others by themselves"
        assert await kept_twice([each for each in servers if each is not dying]) == 0

    try:
        run(test)
    finally:
        for each in servers:
            each.stop()
