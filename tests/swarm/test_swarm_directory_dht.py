"""The directory's contract on a real hash table, and strangers in it who lie."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

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
from metainf.testing.directory_suite import DirectorySuite, Loop, Place, seen  # noqa: E402
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


@dataclass
class Shared:
    """A table of signed records with a founder and a member, for several tests."""

    loop: Loop
    place: Table
    member: HivemindDirectory


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    loop = Loop()
    place = loop.run(table(15.0, signed=True))
    made = Shared(loop, place, cast(HivemindDirectory, loop.run(place.member())))
    yield made
    loop.run(place.end())
    loop.stop()


def test_what_strangers_store_is_neither_kept_nor_believed(shared: Shared) -> None:
    """Forged, stolen, prolonged, malformed and oversized records, one that would wipe out a whole key,
    farewells in others' names: the honest record stays, its next word is taken, its removal is seen."""
    who, other = speaker()[0], speaker()[0]
    mine, reader, writer = certify(who, time.time()), shared.place.founder, shared.member
    key = f"{NODES}{who.node}"

    async def story() -> None:
        stranger = await Stranger.join(peer(shared.place.founder))
        writer.identity = who
        try:
            first = word(who, mine, (1, 1), 15.0)
            await writer.put(key, first)
            await seen((reader,), lambda held: held.get(key) == first, 15.0)
            await attacked(stranger, key, first, (who, other))
            await asyncio.sleep(2.5)
            assert dict(await reader.records()) == dict(await writer.records()) == {key: first}
            second = word(who, mine, (1, 2), 15.0)
            await writer.put(key, second)
            await seen((reader,), lambda held: held == {key: second}, 15.0)
            await writer.remove(key)
            await seen((reader,), lambda held: not held, 30.0)
            await stranger.store(key, second, time.time() + 15)
            await asyncio.sleep(2.5)
            assert not await reader.records(), "a repeated word does not bring back who left"
        finally:
            await stranger.node.shutdown()

    shared.loop.run(story())


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


def test_only_what_others_would_keep_is_put(shared: Shared) -> None:
    (who, der), (other, _) = speaker(), speaker()

    async def story() -> None:
        for key, record in ((f"{NODES}{who.node}", b"x"), (f"{GUESTS}{other.node}", der), ("else.abc", der)):
            with pytest.raises(BadInput, match="expected a signed record"):
                await shared.member.put(key, record)

    shared.loop.run(story())


def test_a_client_reads_and_writes_and_keeps_nothing(shared: Shared) -> None:
    who, der = speaker()
    key = f"{GUESTS}{who.node}"

    async def story() -> None:
        client = await joined(shared.place.founder.join_address, who, stays=False)
        assert isinstance(client, HivemindDirectory) and client.join_address == ""
        await client.put(key, der)
        await seen((shared.member, client), lambda held: held.get(key) == der, 30.0)
        await client.remove(key)
        await seen((shared.member, client), lambda held: key not in held, 30.0)
        await client.close()

    shared.loop.run(story())


def test_twelve_exits_and_rejoins_leave_no_ghost(shared: Shared) -> None:
    lifetime_s, reader = 5.0, shared.place.founder
    crowd = Crowd.of(reader.join_address, lifetime_s, random.Random(6))

    async def story() -> None:
        try:
            for _ in range(6):
                crowd.comes()
            await exactly(reader, lambda: set(crowd.alive), 60.0)
            await asyncio.to_thread(crowd.churn, 12, 3)
            await exactly(reader, lambda: set(crowd.alive), lifetime_s + 20.0)
            assert crowd.exits == 12 and len(crowd.alive) == 6
        finally:
            crowd.end()

    shared.loop.run(story())


def test_members_whose_programs_are_killed_come_back(shared: Shared) -> None:
    """The founder too: by way of those who joined it."""
    pair = (shared.place.founder, shared.member)
    words = {f"{GUESTS}{who.node}": der for who, der in (speaker(), speaker())}

    async def both_put() -> None:
        begun = time.monotonic()
        while True:
            try:
                for member, (key, record) in zip(pair, words.items(), strict=True):
                    await member.put(key, record)
                return
            except DirectoryLost:
                assert time.monotonic() - begun < 40
                await asyncio.sleep(0.2)

    async def story() -> None:
        for member in pair:
            program = member._program
            program.kill()
            await program.wait()
            await both_put()
            await seen(pair, lambda held: words.items() <= held.items(), 14.0)

    shared.loop.run(story())


def test_nobody_there() -> None:
    gone = "dht://127.0.0.1:9/12D3KooWPM51pSCFYcAg9uKqpEr59nH84yTC5MGZMMtzoWisXokh"
    with pytest.raises(DirectoryLost, match=r"127\.0\.0\.1/tcp/9"):
        asyncio.run(joined(gone))
