"""The program of a member of the hash table: the library hivemind, apart from all else.

It reads what strangers send, so it holds no key of the node's and no weights. Of hivemind it uses the hash
table over libp2p and nothing else: records travel as bytes in protobuf and MessagePack, never as pickles.

python -m metainf.swarm.net.dht_member MEMBERSHIP-AS-JSON
"""

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from typing import Any

from metainf.domain import BadInput
from metainf.swarm.net.dht_words import (
    MOST_LINE,
    MOST_OF_SHARD,
    SHARDS,
    Ask,
    Kept,
    Membership,
    Told,
    address_of,
    packed,
    pause_s,
    shard_of,
    unpacked,
)
from metainf.swarm.net.records import GONE, KEY, MOST_RECORD_BYTES, good_until
from metainf.swarm.plan.table import SKEW_S

ASK_S = 2.0
FRIENDS, MEET_S = 32, 5.0
MOST_JUDGED = 50_000
NAME = "metainf-swarm-1-"


class Judge:
    """Which records are kept and believed: hivemind asks at each one that a stranger stores or answers.

    A verdict that was good stays good while the record lives, so that one late record does not spoil an
    honest answer that holds many.
    """

    def __init__(self, told: Membership, loads: Any, name_of: Any) -> None:
        self.told, self._loads = told, loads
        self._shards = {name_of(f"{NAME}{shard}").to_bytes(): shard for shard in range(SHARDS)}
        self._known: dict[bytes, float] = {}
        self.crowd: dict[int, set[str]] = {}

    def admits(self, key: bytes, subkey: bytes, value: bytes, until_s: float, now_s: float) -> bool:
        """Whether a record may lie there, as the bytes that travel, until that instant."""
        shard = self._shards.get(key)
        if shard is None or not now_s - SKEW_S < until_s <= now_s + self.told.lifetime_s + SKEW_S:
            return False
        if len(value) > MOST_RECORD_BYTES + 16 or len(subkey) > 128:
            return False
        try:
            name, record = self._loads(subkey), self._loads(value)
        except Exception:  # whatever a stranger's bytes make the parser raise
            return False
        if not isinstance(name, str) or not KEY.fullmatch(name) or shard_of(name) != shard:
            return False
        if not isinstance(record, bytes) or len(record) > MOST_RECORD_BYTES:
            return False
        return not self.told.signed or until_s <= self._until(name, record, now_s) + 1e-3

    def _until(self, name: str, record: bytes, now_s: float) -> float:
        mark = hashlib.blake2b(name.encode() + b"\x00" + record, digest_size=16).digest()
        if mark not in self._known:
            if len(self._known) >= MOST_JUDGED:
                self._known = {known: at for known, at in self._known.items() if at > now_s}
            # Lifetimes are judged above by this member's clock; here counts what the owner signed.
            self._known[mark] = good_until(name, record, now_s, lifetime_s=1e6)
        return self._known[mark]


def validator(judge: Judge, storage: Any) -> Any:
    """The judge as hivemind wants it. `storage()` is the member's own, to refuse crowds."""
    from hivemind.dht.validation import DHTRecord, RecordValidatorBase

    class Validator(RecordValidatorBase):  # type: ignore[misc]
        def validate(self, record: DHTRecord) -> bool:
            now_s = time.time()
            if not judge.admits(record.key, record.subkey, record.value, record.expiration_time, now_s):
                return False
            return not crowded(storage(), record.key, judge._loads(record.subkey))

    return Validator()


def crowded(storage: Any, key: bytes, name: str) -> bool:
    """Whether a key holds so many records that a new name finds no place."""
    from hivemind.dht.routing import DHTID

    kept = storage.get(DHTID.from_bytes(key)) if storage is not None else None
    return kept is not None and len(kept.value) >= MOST_OF_SHARD and name not in kept.value


class Member:
    """One member of the table: keeps, reads in rounds, and meets again whom it lost sight of."""

    def __init__(self, told: Membership) -> None:
        self.told = told
        self.node: Any = None
        self.friends: dict[Any, list[Any]] = {}
        self.said: dict[str, tuple[str, float]] = {}

    async def start(self) -> Told:
        """Join or begin the table; says its addresses."""
        from hivemind.dht.node import DHTNode
        from hivemind.dht.protocol import DHTProtocol
        from hivemind.dht.routing import DHTID
        from hivemind.utils.serializer import MSGPackSerializer

        only = MSGPackSerializer._ext_type_codes  # of what may stand in an answer, only dictionaries stay
        for code in [code for code in only if code != 0x50]:
            del only[code]
        judge = Judge(self.told, DHTProtocol.serializer.loads, lambda text: DHTID.generate(source=text))
        listens = self.told.stays or not self.told.peers
        place = {"host_maddrs": [f"/ip4/{self.told.host}/tcp/{self.told.port}"]} if listens else {}
        self.node = await DHTNode.create(
            initial_peers=list(self.told.peers) or None,
            record_validator=validator(judge, lambda: self.node.protocol.storage if self.node else None),
            client_mode=not listens,
            no_listen=not listens,
            wait_timeout=ASK_S,
            blacklist_time=1.0,
            backoff_rate=1.5,
            cache_locally=False,
            cache_nearest=0,
            nat_port_map=self.told.relay,
            auto_nat=self.told.relay,
            use_relay=self.told.relay,
            use_auto_relay=self.told.relay,
            trusted_relays=list(self.told.peers) if self.told.relay and self.told.peers else None,
            identity_path=self.told.identity,
            check_if_identity_free=False,
            **place,
        )
        return Told(kind="ready", peers=await self.addresses(), join=await self.join_address())

    async def addresses(self) -> tuple[str, ...]:
        """Multiaddresses of this member."""
        if not (self.told.stays or not self.told.peers):
            return ()
        return tuple(str(each) for each in await self.node.p2p.get_visible_maddrs(latest=True))

    async def join_address(self) -> str:
        """`dht://HOST:PORT/PEER,…` by which others join, of the addresses in IPv4."""
        found = [address_of(each) for each in await self.addresses() if each.startswith("/ip4/")]
        far = [each for each in found if not each.startswith("127.")]
        return "dht://" + ",".join((far or found)[:4]) if found else ""

    def alone(self) -> bool:
        """Whether one who joined others sees none of them any more."""
        return bool(self.told.peers) and not self.node.protocol.routing_table.peer_id_to_uid

    async def keep(self, ask: Ask) -> Told:
        """Store one record with the members whose names are nearest to its key."""
        if self.alone():
            return Told(kind="answer", number=ask.number, good=False, why="no other member answers")
        name = f"{NAME}{shard_of(ask.key)}"
        good = await self.node.store(name, unpacked(ask.record), ask.until_s, subkey=ask.key)
        good = good or await self._later_word(name, ask)
        why = "" if good else "no member took the record"
        return Told(kind="answer", number=ask.number, good=bool(good), why=why)

    async def _later_word(self, name: str, ask: Ask) -> bool:
        """Whether the table holds a later word under the same key, which counts more than this one."""
        found = await self.node.get(name, latest=True)
        held = found.value if found is not None and isinstance(found.value, dict) else {}
        return ask.key in held and held[ask.key].expiration_time >= ask.until_s

    async def read(self) -> tuple[Told, int]:
        """All records, as what is new since the last round, and how many bytes all of them are."""
        begun = time.perf_counter()
        names = [f"{NAME}{shard}" for shard in range(SHARDS)]
        found = await self.node.get_many(names, sufficient_expiration_time=float("inf"))
        now_s, read = time.time(), 0
        new: dict[str, Kept] = {}
        held: dict[str, tuple[str, float]] = {}
        for answer in found.values():
            for key, (record, until_s) in answer.value.items() if answer is not None else ():
                if not isinstance(record, bytes) or until_s <= now_s:
                    continue
                read += len(record)
                held[key] = (hashlib.blake2b(record, digest_size=8).hexdigest(), until_s)
                if self.said.get(key) != held[key]:
                    new[key] = Kept(record="" if record.startswith(GONE) else packed(record), until_s=until_s)
        self.said = held
        good = not self.alone()
        took_s = time.perf_counter() - begun
        told = Told(kind="round", good=good, new=new, peers=self.seen(), took_s=took_s)
        return told, read

    def seen(self, most: int = 8) -> tuple[str, ...]:
        """Multiaddresses (TCP over IPv4) of members, those that are there and the latest first."""
        found = []
        table = self.node.protocol.routing_table.peer_id_to_uid
        latest = list(self.friends.items())[::-1]
        for peer, addresses in sorted(latest, key=lambda each: each[0] not in table):
            here = [text for text in map(str, addresses) if text.startswith("/ip4/") and "/tcp/" in text]
            found += [f"{text.partition('/p2p/')[0]}/p2p/{peer}" for text in here[:1]]
        return tuple(found[:most])

    async def meet(self) -> None:
        """Remember those who are seen; look again for those who were, after a cut."""
        table = self.node.protocol.routing_table
        for each in await self.node.p2p.list_peers():
            if each.peer_id in table.peer_id_to_uid:
                self.friends.pop(each.peer_id, None)
                self.friends[each.peer_id] = list(each.addrs)
        for text in self.told.peers:
            address, _, peer = text.rpartition("/p2p/")
            self._first(peer, address)
        while len(self.friends) > FRIENDS:
            del self.friends[next(iter(self.friends))]
        lost = [peer for peer in self.friends if peer not in table.peer_id_to_uid]
        await asyncio.gather(*(self._again(peer) for peer in lost), return_exceptions=True)

    def _first(self, peer: str, address: str) -> None:
        from hivemind.p2p import PeerID
        from hivemind.utils.multiaddr import Multiaddr

        self.friends.setdefault(PeerID.from_base58(peer), [Multiaddr(address)])

    async def _again(self, peer: Any) -> None:
        await asyncio.wait_for(self.node.p2p._client.connect(peer, self.friends[peer]), ASK_S)
        await self.node.protocol.call_ping(peer)


def say(told: Told) -> None:
    """One line."""
    sys.stdout.write(told.canonical() + "\n")
    sys.stdout.flush()


async def reading(member: Member) -> None:
    """Round after round; those who were lost sight of are looked for in between."""
    met_s = 0.0
    while True:
        pause = pause_s(0)
        try:
            told, read = await member.read()
            say(told)
            pause = pause_s(read)
        except Exception as error:  # the library raises many kinds; the next round may succeed
            say(Told(kind="round", good=False, why=repr(error)[:300]))
        if time.monotonic() - met_s > MEET_S:
            with contextlib.suppress(Exception):
                await member.meet()
            met_s = time.monotonic()
        await asyncio.sleep(pause)


async def answering(member: Member, line: bytes) -> None:
    """Do what a line asks."""
    ask = Ask.parse(line)
    try:
        say(await member.keep(ask))
    except Exception as error:
        say(Told(kind="answer", number=ask.number, good=False, why=repr(error)[:300]))


async def main(told: Membership) -> None:
    """Run until the input ends, which it does when the member's process does."""
    lines = asyncio.StreamReader(limit=MOST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, "rb", buffering=0)
    )
    member = Member(told)
    try:
        say(await member.start())
    except Exception as error:
        say(Told(kind="failed", good=False, why=repr(error)[:500]))
        return
    tasks = {asyncio.create_task(reading(member))}
    while line := await lines.readline():
        with contextlib.suppress(BadInput):
            task = asyncio.create_task(answering(member, line))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()
    await member.node.shutdown()


if __name__ == "__main__":
    asyncio.run(main(Membership.parse(sys.argv[1])))
