"""Round trips to other nodes: the time of a TCP connection to the address that they announce."""

import asyncio
import contextlib
import ipaddress
import re
import socket
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from metainf.swarm.plan.joining import neighbours
from metainf.swarm.words import MOST_PINGS, Announcement, Ping, Span

PINGED = 16
"""Nodes that are measured in one round."""
PING_S, KEPT, TRIES, BETWEEN_S = 2.0, 5, 3, 0.25
"""Longest wait, round trips of which the shortest counts, tries before a node that refuses counts as gone."""


class Pings:
    """What this process has measured, renewed in rounds. The shortest of the last few round trips counts:
    the others show how busy the two processes were."""

    def __init__(self, rng: np.random.Generator, count: int = PINGED) -> None:
        self.rng, self.count = rng, count
        self._kept: dict[str, deque[float]] = {}
        self.gone: set[str] = set()

    async def around(self, words: Sequence[Announcement], span: Span) -> None:
        """One round: a sample of the nodes, at the same time. Those that have left are forgotten."""
        self.only(words)
        await asyncio.gather(*(self.to(word) for word in neighbours(words, span, self.count, self.rng)))

    def only(self, words: Sequence[Announcement]) -> None:
        """Forget all others."""
        there = {word.node for word in words}
        self._kept = {node: kept for node, kept in self._kept.items() if node in there}
        self.gone &= there

    async def some(self, words: Sequence[Announcement], count: int | None = None) -> None:
        """One round of a client or a newcomer, to whom all nodes are alike: some of them, by chance."""
        chosen = self.rng.permutation(len(words))[: count or self.count]
        await asyncio.gather(*(self.to(words[at]) for at in chosen))

    async def to(self, word: Announcement) -> None:
        """Measure the way to one node. Nothing is said of one that cannot be reached."""
        for number in range(TRIES):
            try:
                took = await round_trip_ms(word.address)
            except ConnectionRefusedError:
                await asyncio.sleep(BETWEEN_S if number + 1 < TRIES else 0)
                continue
            except (OSError, ValueError, TimeoutError):
                self._kept.pop(word.node, None)  # unknown: nothing is said of it
                return
            self._kept.setdefault(word.node, deque(maxlen=KEPT)).append(took)
            self.gone.discard(word.node)
            return
        self._kept.pop(word.node, None)
        self.gone.add(word.node)

    def shortest(self) -> dict[str, float]:
        """Milliseconds to each node that was measured."""
        return {node: min(kept) for node, kept in self._kept.items()}

    def told(self) -> tuple[Ping, ...]:
        """For the announcement; the nearest where there are more than it may hold."""
        nearest = sorted(self.shortest().items(), key=lambda each: each[1])[:MOST_PINGS]
        return tuple(Ping(node=node, rtt_ms=round(ms, 3)) for node, ms in sorted(nearest))


async def round_trip_ms(address: str, within_s: float = PING_S) -> float:
    """Milliseconds to open a connection to host:port; finding the host's address is not counted.

    Raises ConnectionRefusedError where nobody listens, OSError, ValueError for what is no address, and
    TimeoutError.
    """
    host, _, port = address.rpartition(":")
    host, loop = host.strip("[]"), asyncio.get_running_loop()
    if not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"expected host:port, found {address!r}")
    found = await asyncio.wait_for(loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM), within_s)
    family, kind, protocol, _, where = found[0]
    with socket.socket(family, kind, protocol) as opened:
        opened.setblocking(False)
        begun = time.perf_counter()
        await asyncio.wait_for(loop.sock_connect(opened, where), within_s)
        return (time.perf_counter() - begun) * 1000


def own_host(url: str) -> str:
    """The address of this machine from which it reaches another, as the system would route it; nothing is
    sent. The loopback address where there is no way."""
    host, port = _host_of(url)
    with contextlib.suppress(OSError, IndexError):
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as opened:
            opened.connect(where)
            return str(opened.getsockname()[0])
    return "127.0.0.1"


def unspecified(host: str) -> bool:
    """Whether a host means all addresses of this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return not host


def _host_of(url: str) -> tuple[str, int]:
    """Host and port of the first address of a directory; this machine where it names none."""
    from urllib.parse import urlsplit

    first = url.partition(",")[0]
    if found := re.match(r"/(?:ip4|ip6|dns[46]?)/([^/]+)/(?:tcp|udp)/(\d+)", first):
        return found[1], int(found[2])
    told = urlsplit(first if "://" in first else f"nats://{first}")
    try:
        return told.hostname or "127.0.0.1", told.port or 4222
    except ValueError:
        return told.hostname or "127.0.0.1", 4222
