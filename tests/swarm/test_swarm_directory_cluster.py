"""The directory on three real NATS servers of which one is killed: a follower, the leader, all of them."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from metainf.domain import MissingExtra

for name in ("cryptography", "nats"):
    pytest.importorskip(name, reason="needs the extra swarm")

from nats_cluster import until, urls_of, whole  # noqa: E402

from metainf.swarm.host.nats import Server, cluster, program  # noqa: E402
from metainf.swarm.net.bucket import NatsDirectory  # noqa: E402
from metainf.swarm.net.directory import DirectoryLost, joined  # noqa: E402
from metainf.swarm.net.servers import BUCKET, Servers  # noqa: E402
from metainf.testing.directory_suite import seen  # noqa: E402
from metainf.testing.light_members import Crowd, exactly  # noqa: E402

try:
    program()
except MissingExtra:
    pytest.skip("needs nats-server of the extra swarm", allow_module_level=True)

STREAM, LIFETIME_S, WITHIN_S = f"KV_{BUCKET}", 8.0, 60.0


def test_three_named_servers_keep_three_copies() -> None:
    assert Servers.parse("nats://a:1,nats://b:1,nats://c:1?bucket=x").replicas == 3
    assert Servers.parse("nats://a:1,nats://b:1").replicas == Servers.parse("a:1").replicas == 1


async def started_all(servers: list[Server]) -> None:
    await asyncio.gather(*(asyncio.to_thread(each.start) for each in servers))


async def first(url: str, lifetime_s: float = LIFETIME_S) -> NatsDirectory:
    """A member, once the servers are ready for it."""
    begun = time.monotonic()
    while True:
        try:
            return await NatsDirectory.join(url, lifetime_s)
        except DirectoryLost:
            assert time.monotonic() - begun < WITHIN_S
            await asyncio.sleep(0.2)


async def put(member: NatsDirectory, key: str, record: bytes) -> None:
    """Put, and again while nobody leads, as a node does."""
    begun = time.monotonic()
    while True:
        try:
            return await member.put(key, record)
        except DirectoryLost:
            assert time.monotonic() - begun < WITHIN_S
            await asyncio.sleep(0.2)


def led_by(told: object, servers: list[Server]) -> Server:
    return servers[int(told.cluster.leader.rpartition("-")[2])]  # type: ignore[attr-defined]


def test_one_of_three_servers_is_killed_and_comes_back(tmp_path: Path) -> None:
    """First one that follows, then the one that leads. Nodes are processes that know all three; a watcher is
    connected to each server and knows that one only, so it has to find the others by itself."""
    servers = cluster(tmp_path)
    crowd = Crowd.of(urls_of(servers), LIFETIME_S, random.Random(3))

    async def story() -> None:
        await started_all(servers)
        watchers = [await first(urls_of(servers))]
        watchers += [await first(each.url) for each in servers]

        async def right() -> None:
            """All see exactly those who live, and so does who joins now by servers that are there."""
            alive = [each for each in servers if each.process and each.process.poll() is None]
            new = await first(alive[0].url)
            for each in (*watchers, new):
                await exactly(each, lambda: set(crowd.alive), WITHIN_S)
            await new.close()

        for _ in range(3):
            crowd.comes()
        told = await until(servers, STREAM, whole)
        assert told.config.num_replicas == 3
        await right()
        for leads in (False, True):
            leader = led_by(await until(servers, STREAM, whole), servers)
            dying = next(each for each in servers if (each is leader) == leads)
            await asyncio.to_thread(dying.kill)
            for each in watchers:
                assert len(await each.records()) == 3, "what was known is read on"
            await right()
            crowd.comes()
            await right()  # watchers learn of the new one
            await asyncio.to_thread(crowd.goes, next(iter(crowd.alive)), False)
            await right()  # and who died is gone a lifetime later
            ports = {each._connection.connected_url.port for each in watchers}
            assert dying.port not in ports
            await asyncio.to_thread(dying.start)
            told = await until(servers, STREAM, whole)
            assert told.config.num_replicas == 3
        await asyncio.to_thread(crowd.goes, next(iter(crowd.alive)), True)
        await right()
        await asyncio.gather(*(each.close() for each in watchers))

    try:
        asyncio.run(asyncio.wait_for(story(), 400))
    finally:
        crowd.end()
        for each in servers:
            each.stop()


@pytest.mark.parametrize("named", [3, 1])
def test_a_bucket_whose_servers_all_forgot_it_is_filled_again(tmp_path: Path, named: int) -> None:
    """Servers that are killed at once come back with a bucket of the same name and age, and nothing in it:
    what is put then counts although its number is lower than those before. With one copy it is enough that
    its server is killed."""
    servers = cluster(tmp_path)

    async def story() -> None:
        await started_all(servers)
        members = [await first(",".join(each.url for each in servers[:named]), 20.0)]
        members += [await first(each.url, 20.0) for each in servers[1:]]
        for _ in range(20):
            await members[0].put("node.old", b"1")
        await seen(members, lambda held: "node.old" in held, WITHIN_S)
        told = await until(servers, STREAM, lambda told: told.cluster.leader)
        assert told.config.num_replicas == named
        dying = servers if named == 3 else [led_by(told, servers)]
        await asyncio.gather(*(asyncio.to_thread(each.kill) for each in dying))
        await started_all(dying)
        await put(members[1], "node.old", b"2")
        await put(members[2], "node.new", b"3")
        await seen(members, lambda held: held == {"node.old": b"2", "node.new": b"3"}, WITHIN_S)
        await asyncio.gather(*(each.close() for each in members))

    try:
        asyncio.run(asyncio.wait_for(story(), 200))
    finally:
        for each in servers:
            each.stop()


def test_three_servers_that_are_no_cluster_are_refused(tmp_path: Path) -> None:
    servers = [Server(tmp_path / str(number)) for number in range(3)]

    async def story() -> None:
        await started_all(servers)
        with pytest.raises(DirectoryLost, match="of one cluster"):
            await joined(urls_of(servers))

    try:
        asyncio.run(story())
    finally:
        for each in servers:
            each.stop()
