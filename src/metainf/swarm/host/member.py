"""A node among others: what it holds, where it goes, and what it says of itself every few seconds."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.book import Book, ages_s, pause, signed_word
from metainf.swarm.host.load import Load
from metainf.swarm.host.paying import ledger_of
from metainf.swarm.host.pings import Pings, own_host, unspecified
from metainf.swarm.host.told import Said, Told
from metainf.swarm.net.directory import LIFETIME_S, NODES, REFRESH_S, DirectoryLost
from metainf.swarm.net.paid import Till
from metainf.swarm.net.servers import in_the_open
from metainf.swarm.plan.joining import Need, Subject, clock_off_s, headings, picture
from metainf.swarm.plan.sight import UnderWay
from metainf.swarm.trust.certificates import Certified
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.signing import seal
from metainf.swarm.words import (
    LEAST_BLOCK_MS,
    MOST_CACHE_TOKENS,
    Announcement,
    Capacity,
    Features,
    Held,
    Span,
    State,
    sayable_ms,
)

Say = Callable[[Said], None]
AGES = 9
"""Records by which the clock is judged."""


@dataclass(frozen=True)
class Who:
    """What does not change as long as the process lives. `room` counts blocks that fit at once, which may be
    more than the model has: then new ones fit beside old ones. `need` is what one of them takes."""

    identity: Identity
    certified: Certified
    checkpoint: Checkpoint
    subject: Subject
    room: int
    need: Need
    hardware: str

    @property
    def node(self) -> str:
        return self.identity.node


class Member:
    """One node: `span` is what it holds or is about to load, `target` where it moves."""

    def __init__(self, told: Told, who: Who, book: Book, load: Load, say: Say) -> None:
        self.told, self.who, self.book, self.load, self._say = told, who, book, load, say
        self.rng = np.random.default_rng()
        self.pings = Pings(self.rng)
        self.state: State = "joining"
        self.span: Span | None = told.span
        self.target: Span | None = None
        self.nodes: list[Any] = []
        self.host = self._host()
        self.port = told.port
        self.since_s, self.loading_s = time.monotonic(), 0.0
        self.under_way: Mapping[str, UnderWay] = {}
        self.generation, self.seq = int(time.time() * 1000), 0
        self.lost = self.overtaken = self.clock_told = False
        self.stop = asyncio.Event()
        held = None if told.ledger is None else ledger_of(Path(told.ledger)).holds
        self.till = Till(who.identity, told.paid, told.least_nanousd_per_pass, held)

    def _host(self) -> str:
        if unspecified(self.told.host):
            return own_host(self.told.join)
        return self.told.host

    @property
    def key(self) -> str:
        """Of its record."""
        return f"{NODES}{self.who.node}"

    @property
    def address(self) -> str:
        """Where others reach it."""
        public = self.told.public_address
        host = public or (f"[{self.host}]" if ":" in self.host else self.host)
        return host if public and _has_port(public) else f"{host}:{self.port}"

    @property
    def most(self) -> int:
        """Blocks that it can hold."""
        return min(self.who.room, self.who.subject.num_blocks)

    def say(self, event: str, text: str) -> None:
        """Tell whoever started this process."""
        address = self.address if self.port else None
        told = {"event": event, "node": self.who.node, "text": text, "address": address}
        span = None if self.span is None else self.span.model_dump()
        self._say(Said.of({key: value for key, value in {**told, "span": span}.items() if value is not None}))

    def capacity(self) -> Capacity:
        """Itself as placement sees it."""
        speed = 1000 / self.load.decode_ms
        return Capacity(node=self.who.node, blocks_per_s=speed, memory_blocks=self.most)

    def words(self) -> list[Announcement]:
        """The other nodes, as last read."""
        return [each.word for each in self.book.heard if each.word.node != self.who.node]

    def others(self, counted: Mapping[str, Span] | None = None) -> list[Held]:
        """Who holds, or is about to hold, which blocks of this model."""
        return picture(self.words(), self.who.subject, self.pings.gone, self.who.node, counted)

    def headings(self) -> dict[str, Span]:
        """Where the others are or go."""
        return headings(self.words())

    def word(self) -> Announcement:
        """What it says now; every word has a number of its own."""
        assert self.span is not None
        self.seq, now = self.seq + 1, time.time()
        told, node = self.told, self.nodes[-1] if self.nodes else None
        return Announcement(
            node=self.who.node,
            generation=self.generation,
            seq=self.seq,
            address=self.address,
            certificate=self.who.certified.digest,
            model=self.who.subject.model,
            num_blocks=self.who.subject.num_blocks,
            span=self.span,
            target=self.target,
            state=self.state,
            profile=self.who.subject.profile,
            features=Features(
                decode_ms_per_block=sayable_ms(self.load.decode_ms, LEAST_BLOCK_MS),
                prefill_ms_per_token_block=sayable_ms(self.load.prefill_ms),
                queue_ms=sayable_ms(round(self.load.queue_ms(), 3)),
                cache_tokens_left=0 if node is None else min(node.cache_tokens_left, MOST_CACHE_TOKENS),
                memory_blocks=self.most,
                hardware=self.who.hardware,
                region=told.region,
                usd_per_hour=told.usd_per_hour,
                labels=told.labels,
                writing=self.load.writing(),
            ),
            pings=self.pings.told(),
            issued_s=now,
            valid_until_s=now + LIFETIME_S,
        )

    async def announce(self) -> None:
        """Say so; a lost one is told once. A newer process of this identity ends this one."""
        try:
            await self.book.look()
            if self._is_overtaken():
                return
            sealed = seal(self.who.identity, self.word(), self.who.certified.der)
            await self.book.directory.put(self.key, sealed)
            self.load.tally.announced_s = time.time()
        except DirectoryLost as error:
            if not self.lost:
                self.load.tally.losses += 1
                self.say("lost", f"{error}: serving goes on, the directory is tried again")
            self.lost = True
            return
        if self.lost:
            self.lost = False
            self.say("found", "the directory is back, the node is announced again")

    def _is_overtaken(self) -> bool:
        word = signed_word(self.book.records[self.key]) if self.key in self.book.records else None
        if word is not None and word.generation > self.generation:
            if not self.overtaken:
                self.say(
                    "warning",
                    "another process of the same identity has started: this one leaves",
                )
            self.overtaken = True
            self.stop.set()
        return self.overtaken

    def after_earlier(self) -> None:
        """Begin behind what an earlier process of the same identity said. The directory has been read."""
        word = signed_word(self.book.records[self.key]) if self.key in self.book.records else None
        if word is not None:
            self.generation = max(self.generation, word.generation + 1)

    def judge_way(self) -> None:
        """Warn where others could read what is said to the directory."""
        if (word := in_the_open(self.told.join)) is not None:
            self.say("warning", word)

    def judge_clock(self) -> None:
        """Warn once where this machine's clock and those of the others differ too much."""
        ages = ages_s(self.book.records, time.time(), self.who.node)
        off = clock_off_s(ages[:AGES], LIFETIME_S)
        if off is not None and not self.clock_told:
            way = "ahead of" if off > 0 else "behind"
            whose = f"those of {len(ages)} other nodes" if len(ages) > 1 else "that of the one other node"
            self.say(
                "warning",
                f"this machine's clock is {abs(off):.0f} s {way} {whose}: nodes do not believe "
                "one another; set the clocks (NTP)",
            )
        self.clock_told = off is not None

    async def speaking(self) -> None:
        """Announce itself again and again."""
        while not self.stop.is_set():
            await self.announce()
            self.judge_clock()
            await pause(self.stop, REFRESH_S)

    async def pinging(self) -> None:
        """Measure the ways to some of the others again and again, at moments of its own."""
        while not self.stop.is_set():
            same = [word for word in self.words() if self.who.subject.admits(word)]
            listening = [word for word in same if word.state == "online"]
            if self.span is not None:
                await self.pings.around(listening, self.span)
            await pause(self.stop, REFRESH_S * self.rng.uniform(0.7, 1.3))

    async def forgotten(self) -> None:
        """Take its record back, unless it is already that of a newer process."""
        with contextlib.suppress(DirectoryLost):
            await self.book.look()
            word = signed_word(self.book.records.get(self.key, b""))
            if word is not None and word.generation == self.generation:
                await self.book.directory.remove(self.key)


def _has_port(address: str) -> bool:
    """Whether an address ends in a port: `host:1`, `[::1]:1`, but not `::1`."""
    host, colon, port = address.rpartition(":")
    return bool(colon) and port.isdigit() and (":" not in host or host.endswith("]"))
