"""Addresses, farewells and what may be kept for how long: deciding, without a network."""

import math
import os
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="needs the extra swarm")

from metainf.domain import BadInput
from metainf.swarm.net.dht_member import NAME, Judge
from metainf.swarm.net.dht_words import (
    SHARDS,
    Membership,
    address_of,
    membership,
    pause_s,
    shard_of,
)
from metainf.swarm.net.records import FAREWELL_BYTES, GONE, GUESTS, NODES, farewell, good_until
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import Identity
from metainf.testing.light_members import word

PEER = "12D3KooWPM51pSCFYcAg9uKqpEr59nH84yTC5MGZMMtzoWisXokh"


def test_addresses_of_a_hash_table() -> None:
    new = membership("dht://10.0.0.1:4600?identity=/etc/peer.key")
    assert (new.peers, new.host, new.port, new.identity) == ((), "10.0.0.1", 4600, "/etc/peer.key")
    two = membership(f"dht://10.0.0.1:1/{PEER},seed.example.org:2/{PEER}?listen=:4601&relay=yes", stays=False)
    assert two.peers == (f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}", f"/dns4/seed.example.org/tcp/2/p2p/{PEER}")
    assert (two.host, two.port, two.relay, two.stays) == ("0.0.0.0", 4601, True, False)
    assert membership(f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}").host == "127.0.0.1"
    assert address_of(two.peers[0]) == f"10.0.0.1:1/{PEER}"
    for bad in (
        "dht://a:b",
        "dht://1.2.3.4:99999",
        "dht://1.2.3.4/x",
        "/ip4/1.2.3.4/udp/1/p2p/x",
        "dht://a:1?b=2",
    ):
        with pytest.raises(BadInput, match="expected"):
            membership(bad)


def test_how_long_a_record_is_good() -> None:
    who, other, now = Identity(os.urandom(32)), Identity(os.urandom(32)), time.time()
    mine = certify(who, now)
    said, key = word(who, mine, (1, 1), 15.0), f"{NODES}{who.node}"
    assert good_until(key, said, now, 100.0) == pytest.approx(now + 15.0, abs=1.0)
    assert good_until(key, said, now, 5.0) == now + 5.0
    assert good_until(f"{NODES}{other.node}", said, now) == 0.0
    assert good_until(key, said, now + 60) == 0.0
    assert good_until(f"{GUESTS}{who.node}", mine.der, now) == now + 15.0
    assert good_until(f"{GUESTS}{other.node}", mine.der, now) == 0.0
    assert good_until(f"else.{who.node}", mine.der, now) == 0.0
    gone = farewell(who, key, now + 9)
    assert len(gone) == FAREWELL_BYTES and good_until(key, gone, now) == now + 9
    assert good_until(f"{GUESTS}{who.node}", gone, now) == 0.0, "signed for one key only"
    assert good_until(key, farewell(other, key, now + 9), now) == 0.0
    assert good_until(key, farewell(who, key, math.nan), now) == 0.0
    assert good_until(key, gone[:-8] + struct.pack(">d", now + 10), now) == 0.0, "prolonged"


@given(st.binary(max_size=300), st.sampled_from([NODES, GUESTS, "else."]))
def test_bytes_of_strangers_are_good_for_nothing(record: bytes, kind: str) -> None:
    for found in (record, GONE + record, (GONE + record).ljust(FAREWELL_BYTES, b"\x00")[:FAREWELL_BYTES]):
        assert good_until(f"{kind}ed-0123", found, 1e9) == 0.0


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.floats())
def test_the_judge_takes_any_bytes(key: bytes, subkey: bytes, value: bytes, until_s: float) -> None:
    import json

    class Name:
        def __init__(self, text: str) -> None:
            self.text = text

        def to_bytes(self) -> bytes:
            return self.text.encode()

    judge = Judge(Membership(), json.loads, Name)
    for asked in (key, f"{NAME}0".encode()):
        assert not judge.admits(asked, subkey, value, until_s, 1e9)


@given(st.text(max_size=40), st.integers(0, 10**9))
def test_shards_and_pauses(key: str, read: int) -> None:
    assert 0 <= shard_of(key) < SHARDS
    assert pause_s(read) >= 1.0 and read / pause_s(read) <= 512 * 1024 + 1e-6
