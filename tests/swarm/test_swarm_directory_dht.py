"""The directory's contract on a real hash table, and strangers in it who lie."""

import asyncio
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

for name in ("cryptography", "hivemind"):
    pytest.importorskip(name, reason="needs the extra dht")

from metainf.domain import BadInput  # noqa: E402
from metainf.swarm.net.dht import HivemindDirectory, replaced  # noqa: E402
from metainf.swarm.net.dht_member import NAME  # noqa: E402
from metainf.swarm.net.dht_words import SHARDS, Membership, membership, shard_of  # noqa: E402
from metainf.swarm.net.directory import GUESTS, NODES, DirectoryLost, joined  # noqa: E402
from metainf.swarm.net.records import farewell  # noqa: E402
from metainf.swarm.trust.certificates import certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.testing.directory_suite import DirectorySuite, Place, seen  # noqa: E402
from metainf.testing.light_members import Crowd, exactly, word  # noqa: E402

pytestmark = pytest.mark.engine


@dataclass
class Table(Place):
    """A place and who began it."""

    founder: Any = None


async def table(lifetime_s: float, signed: bool = False) -> Table:
    """A new hash table on loopback; its founder is the address of all others."""
    here = Membership(host="127.0.0.1", signed=signed, lifetime_s=lifetime_s)
    founder = await HivemindDirectory.member(here)
    peers = tuple(peer(founder))

    async def join() -> HivemindDirectory:
        return await HivemindDirectory.member(replaced(here, peers))

    return Table(join, founder.close, founder.close, founder=founder)


def peer(member: HivemindDirectory) -> list[str]:
    """Multiaddresses of a member."""
    return list(membership(member.join_address).peers)


class TestHivemind(DirectorySuite):
    lifetime_s, seen_s = 4.0, 4.0

    async def open_place(self, folder: Path) -> Place:
        return await table(self.lifetime_s)


def speaker() -> tuple[Identity, bytes]:
    """Somebody new, and the certificate."""
    identity = Identity(os.urandom(32))
    return identity, certify(identity, time.time()).der


class Stranger:
    """A member of the table that runs hivemind as it is, checks nothing and stores what it likes."""

    def __init__(self, node: Any) -> None:
        self.node = node

    @classmethod
    async def join(cls, peers: list[str]) -> "Stranger":
        from hivemind.dht.node import DHTNode

        told = {"nat_port_map": False, "auto_nat": False, "use_relay": False, "cache_nearest": 5}
        return cls(await DHTNode.create(initial_peers=peers, **told))

    async def store(self, key: str, value: Any, until_s: float, shard: int | None = None) -> None:
        """With all members it knows, itself included."""
        name = f"{NAME}{shard_of(key) if shard is None else shard}"
        await self.node.store(name, value, until_s, subkey=key)


def test_what_strangers_store_is_neither_kept_nor_believed() -> None:
    """Forged, stolen, prolonged, malformed and oversized records, one that would wipe out a whole key, farewells
    in others' names: the honest record stays, its next word is taken, its removal is seen."""

    async def story() -> None:
        place = await table(15.0, signed=True)
        (who, _), (other, _), mine = speaker(), speaker(), None
        mine = certify(who, time.time())
        reader, writer = await asyncio.gather(place.member(), place.member())
        assert isinstance(writer, HivemindDirectory)
        writer.identity = who
        stranger = await Stranger.join(peer(place.founder))
        key = f"{NODES}{who.node}"
        try:
            first = word(who, mine, (1, 1), 15.0)
            await writer.put(key, first)
            await seen((reader,), lambda held: held.get(key) == first, 5.0)
            await attacked(stranger, key, first, (who, other))
            await asyncio.sleep(2.5)
            assert dict(await reader.records()) == {key: first}
            second = word(who, mine, (1, 2), 15.0)
            await writer.put(key, second)
            await seen((reader,), lambda held: held == {key: second}, 5.0)
            await writer.remove(key)
            await seen((reader,), lambda held: not held, 5.0)
            await stranger.store(key, second, time.time() + 15)
            await asyncio.sleep(2.5)
            assert not await reader.records(), "a repeated word does not bring back who left"
        finally:
            await stranger.node.shutdown()
            await place.end()

    asyncio.run(story())


async def attacked(stranger: Stranger, key: str, record: bytes, people: tuple[Identity, Identity]) -> None:
    """All that a stranger may try with one record of another."""
    soon, late = time.time() + 15, time.time() + 1e6
    thief = people[1]
    await stranger.store(key, record, late)  # prolonged
    await stranger.store(key, record, time.time() + 24)
    await stranger.store(key, b"", soon)
    await stranger.store(key, b"\x80\x04garbage", soon)
    await stranger.store(key, bytes(40_000), soon)
    await stranger.store(key, {"a": [1, None]}, soon)
    await stranger.store(key, record, soon, shard=(shard_of(key) + 1) % SHARDS)
    await stranger.store(f"{NODES}{thief.node}", record, soon)  # under another name
    await stranger.store("node.zzz", word(thief, certify(thief, time.time()), (1, 1), 15.0), soon)
    await stranger.store(key, farewell(thief, key, soon), soon)
    await stranger.store("score.abc", b"of no known kind", soon)
    guest = certify(people[0], time.time()).der
    await stranger.store(f"{GUESTS}{thief.node}", guest, soon)
    for shard in range(SHARDS):  # a plain value would take the place of all records of the key
        await stranger.node.store(f"{NAME}{shard}", b"mine", late)
    await stranger.node.store("something else", bytes(100_000), late)


def test_only_what_others_would_keep_is_put() -> None:
    async def story() -> None:
        place = await table(15.0, signed=True)
        (who, der), (other, _) = speaker(), speaker()
        member = place.founder
        for key, record in ((f"{NODES}{who.node}", b"x"), (f"{GUESTS}{other.node}", der), ("else.abc", der)):
            with pytest.raises(BadInput, match="expected a signed record"):
                await member.put(key, record)
        await member.put(f"{GUESTS}{who.node}", der)
        assert set(await member.records()) == {f"{GUESTS}{who.node}"}
        await place.end()

    asyncio.run(story())


def test_a_member_whose_program_is_killed_comes_back() -> None:
    """The founder too: by way of those who joined it."""

    async def story() -> None:
        place = await table(6.0)
        other = await place.member()
        for member in (place.founder, other):
            await asyncio.sleep(6.0)  # until they have met
            program = member._program
            program.kill()
            await program.wait()
            begun = time.monotonic()
            while True:
                try:
                    await member.put("node.abc", b"1")
                    await other.put("node.bcd", b"2")
                    break
                except DirectoryLost:
                    assert time.monotonic() - begun < 30
                    await asyncio.sleep(0.2)
            both = {"node.abc": b"1", "node.bcd": b"2"}
            await seen((place.founder, other), lambda held: held == both, 6.0)
        await place.end()

    asyncio.run(story())


def test_a_client_reads_and_writes_and_keeps_nothing() -> None:
    async def story() -> None:
        place = await table(15.0, signed=True)
        who, der = speaker()
        client = await joined(place.founder.join_address, who, stays=False)
        assert isinstance(client, HivemindDirectory) and client.join_address == ""
        key = f"{GUESTS}{who.node}"
        await client.put(key, der)
        await seen((place.founder,), lambda held: held == {key: der}, 5.0)
        await client.remove(key)
        await seen((place.founder, client), lambda held: not held, 5.0)
        await client.close()
        await place.end()

    asyncio.run(story())


def test_nobody_there() -> None:
    gone = "dht://127.0.0.1:9/12D3KooWPM51pSCFYcAg9uKqpEr59nH84yTC5MGZMMtzoWisXokh"
    with pytest.raises(DirectoryLost, match=r"127\.0\.0\.1/tcp/9"):
        asyncio.run(joined(gone))


def test_thirty_exits_and_rejoins_leave_no_ghost() -> None:
    lifetime_s = 5.0

    async def story() -> None:
        place = await table(lifetime_s, signed=True)
        reader = place.founder
        crowd = Crowd.of(reader.join_address, lifetime_s, random.Random(6))
        try:
            for _ in range(6):
                crowd.comes()
            await exactly(reader, lambda: set(crowd.alive), 30.0)
            await asyncio.to_thread(crowd.churn, 30, 3)
            await exactly(reader, lambda: set(crowd.alive), lifetime_s + 5.0)
            assert crowd.exits == 30 and len(crowd.alive) == 6
        finally:
            crowd.end()
            await place.end()

    asyncio.run(story())
