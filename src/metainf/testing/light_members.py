"""Processes that announce a node which holds nothing: for trying directories with many who come and go."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess

from metainf.swarm.net.bucket import NatsDirectory
from metainf.swarm.net.dht_words import Ask, membership, packed
from metainf.swarm.net.records import NODES, Directory, DirectoryLost, farewell, nodes
from metainf.swarm.trust.certificates import Certified, certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity
from metainf.swarm.trust.signing import seal
from metainf.swarm.words import Announcement, Features, Profile, Span

MODEL = "sha256:" + "0" * 64
PRELOADED = ["metainf.testing.light_members", "nats", "cryptography.x509", "metainf.swarm.trust.tls"]
BEATS = 4
"""Words of a member in a lifetime."""


def word(identity: Identity, mine: Certified, numbers: tuple[int, int], lifetime_s: float) -> bytes:
    """A sealed announcement of (generation, seq), good for a lifetime from now."""
    now_s = time.time()
    said = Announcement(
        node=identity.node,
        generation=numbers[0],
        seq=numbers[1],
        address="127.0.0.1:1",
        certificate=mine.digest,
        model=MODEL,
        num_blocks=1,
        span=Span(start=0, end=1),
        profile=Profile(dtype="float32"),
        features=Features(decode_ms_per_block=1.0),
        issued_s=now_s,
        valid_until_s=now_s + lifetime_s,
    )
    return seal(identity, said, mine.der)


class InProcess:
    """A member of the hash table without a process for its program, which a fork has loaded already."""

    def __init__(self, url: str, lifetime_s: float, identity: Identity) -> None:
        from metainf.swarm.net.dht_member import Member

        self._member, self._identity = Member(membership(url, lifetime_s=lifetime_s)), identity
        self._lifetime_s = lifetime_s

    async def start(self) -> None:
        """Join."""
        await self._member.start()

    async def put(self, key: str, record: bytes) -> None:
        until_s = nodes({key: record}, time.time())[0].word.valid_until_s
        told = await self._member.keep(Ask(number=1, key=key, record=packed(record), until_s=until_s))
        if not told.good:
            raise DirectoryLost(told.why)

    async def remove(self, key: str) -> None:
        until_s = time.time() + self._lifetime_s
        record = packed(farewell(self._identity, key, until_s))
        await self._member.keep(Ask(number=2, key=key, record=record, until_s=until_s))

    async def records(self) -> Mapping[str, bytes]:
        raise NotImplementedError("a light member only speaks")

    async def close(self) -> None:
        await self._member.node.shutdown()


async def live(url: str, seed: bytes, lifetime_s: float) -> None:
    """Announce oneself until SIGTERM, then take it back."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    identity = Identity(seed)
    mine, key = certify(identity, time.time()), f"{NODES}{identity.node}"
    directory: Directory
    if url.startswith("nats:"):
        directory = await NatsDirectory.join(url, lifetime_s)
    else:
        directory = here = InProcess(url, lifetime_s, identity)
        await here.start()
    generation, seq = int(time.time() * 1000), 0
    while not stop.is_set():
        seq += 1
        with contextlib.suppress(DirectoryLost):
            await directory.put(key, word(identity, mine, (generation, seq), lifetime_s))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), lifetime_s / BEATS)
    with contextlib.suppress(DirectoryLost):
        await directory.remove(key)
    await directory.close()


def begin(url: str, seed: bytes, lifetime_s: float) -> None:
    """What the process runs."""
    os.setsid()  # its own children go with it
    asyncio.run(live(url, seed, lifetime_s))


@dataclass
class Crowd:
    """Members that come and go. Those whose ids are in `alive` should be listed, nobody else."""

    url: str
    lifetime_s: float
    rng: random.Random
    context: ForkServerContext
    alive: dict[str, tuple[bytes, ForkServerProcess]] = field(default_factory=dict)
    exits: int = 0

    @classmethod
    def of(cls, url: str, lifetime_s: float, rng: random.Random) -> "Crowd":
        """Nobody yet."""
        context = multiprocessing.get_context("forkserver")
        more = [] if url.startswith("nats:") else ["metainf.swarm.net.dht_member", "hivemind.dht.node"]
        context.set_forkserver_preload([*PRELOADED, *more])
        return cls(url, lifetime_s, rng, context)

    def comes(self, seed: bytes | None = None) -> str:
        """One more; its node id."""
        seed = seed or os.urandom(SEED_BYTES)
        process = self.context.Process(target=begin, args=(self.url, seed, self.lifetime_s), daemon=True)
        process.start()
        node = Identity(seed).node
        self.alive[node] = (seed, process)
        return node

    def goes(self, node: str, kindly: bool) -> bytes:
        """One less: told to leave, or killed; its seed."""
        seed, process = self.alive.pop(node)
        if kindly:
            process.terminate()
        else:
            process.kill()
        process.join(20)
        self.exits += 1
        return seed

    def churn(self, exits: int, together: int) -> None:
        """Some go and as many come, half of those who went under their own names, until so many have gone."""
        end = self.exits + exits
        while self.exits < end:
            for node in self.rng.sample(sorted(self.alive), min(together, end - self.exits, len(self.alive))):
                seed = self.goes(node, kindly=self.rng.random() < 0.5)
                self.comes(seed if self.rng.random() < 0.5 else None)
            time.sleep(self.rng.random())

    def end(self) -> None:
        """All go."""
        for node in list(self.alive):
            self.goes(node, kindly=False)


async def exactly(directory: Directory, live_now: Callable[[], set[str]], within_s: float) -> float:
    """Seconds until a directory lists exactly those who live; fails where it does not in time."""
    begun = time.monotonic()
    while True:
        listed = {heard.word.node for heard in nodes(await directory.records(), time.time())}
        if listed == live_now():
            return time.monotonic() - begun
        ghosts, unseen = listed - live_now(), live_now() - listed
        assert time.monotonic() - begun < within_s, f"{len(ghosts)} ghosts, {len(unseen)} not listed"
        await asyncio.sleep(0.1)
