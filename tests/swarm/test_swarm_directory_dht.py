"""The directory's contract on a real hash table, and strangers in it who lie."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

for name in ("cryptography", "hivemind"):
    pytest.importorskip(name, reason="needs the extra dht")

from metainf.domain import BadInput
from metainf.swarm.net.dht import HivemindDirectory, replaced
from metainf.swarm.net.dht_words import Membership
from metainf.swarm.net.directory import DirectoryLost, joined, nodes
from metainf.swarm.net.records import GUESTS, NODES
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import Identity
from metainf.testing.directory_suite import DirectorySuite, Place, seen

pytestmark = pytest.mark.engine


async def table(lifetime_s: float, signed: bool = False) -> Place:
    """A new hash table on loopback; its founder is the address of all others."""
    here = Membership(host="127.0.0.1", signed=signed, lifetime_s=lifetime_s)
    founder = await HivemindDirectory.member(here)
    peers = tuple(peer(founder))

    async def join() -> HivemindDirectory:
        return await HivemindDirectory.member(replaced(here, peers))

    return Place(join, founder.close, founder.close)


def peer(member: HivemindDirectory) -> list[str]:
    """Multiaddresses of a member."""
    from metainf.swarm.net.dht_words import membership

    return list(membership(member.join_address).peers)


class TestHivemind(DirectorySuite):
    lifetime_s, seen_s = 4.0, 4.0

    async def open_place(self, folder: Path) -> Place:
        return await table(self.lifetime_s)
