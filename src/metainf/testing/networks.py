"""Hosts on one machine: network namespaces with their own addresses, joined by a wire that delays and cuts.

The wire is this process: each namespace has a TUN device, and packets go from one to another here. So latency
and cuts in one direction need no kernel module (`netem` is missing in many), only root, iproute2 and
/dev/net/tun.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import selectors
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

SET_INTERFACE, TUN_WITHOUT_HEADER = 0x400454CA, 0x0001 | 0x1000
NAMESPACES, NEW_NETWORK = Path("/var/run/netns"), 0x40000000
MOST_PACKET = 65_536
_numbers = itertools.count()
Found = TypeVar("Found")


def unusable() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if shutil.which("ip") is None:
        return "needs the program ip (iproute2)"
    name = f"metainf-try-{os.getpid()}"
    try:
        os.close(_tun(f"mt{os.getpid() % 100_000}"))
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"cannot make network namespaces and TUN devices here: {error}"
    return None


@dataclass(frozen=True)
class Host:
    """A namespace with one address."""

    number: int
    namespace: str
    address: str

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command there, in its own process without one in between."""
        return ["ip", "netns", "exec", self.namespace, *command]


class Network:
    """Hosts 0, 1, … in one subnet. `delay` and `cut` hold for packets from one host to another."""

    def __init__(self, hosts: int) -> None:
        """Raises OSError and CalledProcessError where `unusable` tells why."""
        self.hosts: list[Host] = []
        self._tuns: list[int] = []
        self._delay_s: dict[tuple[int, int], float] = {}
        self._cut: set[tuple[int, int]] = set()
        self._due: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()
        self._ended = False
        try:
            for number in range(hosts):
                self._add(number)
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def delay(self, one_way_ms: float, here: int, there: int) -> None:
        """From now on packets take so long, in both directions."""
        self._delay_s[here, there] = self._delay_s[there, here] = one_way_ms / 1000

    def cut(self, here: int, there: int | None = None, one_way: bool = False) -> None:
        """Packets from here to there are lost, and back unless `one_way`; without `there`, to all others."""
        for other in range(len(self.hosts)) if there is None else (there,):
            if other != here:
                self._cut |= {(here, other)} | (set() if one_way else {(other, here)})

    def heal(self) -> None:
        """Nothing is lost any more."""
        self._cut = set()

    def close(self) -> None:
        """Take all of it down."""
        self._ended = True
        if hasattr(self, "_thread"):
            self._thread.join(5.0)
        for tun in self._tuns:
            os.close(tun)
        for host in self.hosts:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", host.namespace)

    def _add(self, number: int) -> None:
        mark = f"{os.getpid() % 100_000}-{next(_numbers)}"
        host = Host(number, f"metainf-{mark}", f"10.77.0.{number + 1}")
        device = f"mi{mark}"[:15]
        _ip("netns", "add", host.namespace)
        self.hosts.append(host)
        self._tuns.append(_tun(device))
        _ip("link", "set", device, "netns", host.namespace)
        within = ("-n", host.namespace)
        _ip(*within, "link", "set", device, "name", "wire")
        _ip(*within, "address", "add", f"{host.address}/24", "dev", "wire")
        _ip(*within, "link", "set", "lo", "up")
        _ip(*within, "link", "set", "wire", "up")

    def _carry(self) -> None:
        watched = selectors.DefaultSelector()
        for number, tun in enumerate(self._tuns):
            watched.register(tun, selectors.EVENT_READ, number)
        while not self._ended:
            wait_s = min(0.1, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.1
            for ready, _ in watched.select(wait_s):
                for packet in _packets(ready.fd):
                    self._take(int(ready.data), packet)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, there, packet = heapq.heappop(self._due)
                self._give(there, packet)
        watched.close()

    def _take(self, here: int, packet: bytes) -> None:
        if packet[0] >> 4 != 4 or packet[16:19] != bytes((10, 77, 0)):
            return
        there = packet[19] - 1
        if not 0 <= there < len(self._tuns) or (here, there) in self._cut:
            return
        wait_s = self._delay_s.get((here, there), 0.0)
        if wait_s:
            heapq.heappush(self._due, (time.monotonic() + wait_s, next(self._order), there, packet))
        else:
            self._give(there, packet)

    def _give(self, there: int, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # a full queue loses packets, as a real one does
            os.write(self._tuns[there], packet)


def enter(namespace: str) -> None:
    """Go to a network with this thread, and the threads that it starts from now on. Raises OSError."""
    place = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(place, NEW_NETWORK):
            number = ctypes.get_errno()
            raise OSError(number, f"cannot go to {namespace}: {os.strerror(number)}")
    finally:
        os.close(place)


class Visitor:
    """An event loop in a thread that stands on a host: what connects there connects from the host. Use as a
    context."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._loop = asyncio.new_event_loop()
        self._failed: OSError | None = None
        self._there = threading.Event()
        self._thread = threading.Thread(target=self._stand, daemon=True)

    def __enter__(self) -> Self:
        """Raises OSError where the thread may not go there."""
        self._thread.start()
        self._there.wait()
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)

    async def does(self, doing: Coroutine[Any, Any, Found]) -> Found:
        """Do something there, for somebody in another event loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(doing, self._loop))

    def _stand(self) -> None:
        try:
            enter(self.host.namespace)
        except OSError as error:
            self._failed = error
        finally:
            self._there.set()
        if self._failed is None:
            self._loop.run_forever()
        self._loop.close()


def _packets(tun: int) -> Iterator[bytes]:
    """All that wait."""
    while True:
        try:
            yield os.read(tun, MOST_PACKET)
        except OSError:
            return


def _tun(device: str) -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tun, SET_INTERFACE, struct.pack("16sH", device.encode(), TUN_WITHOUT_HEADER))
    except OSError:
        os.close(tun)
        raise
    return tun


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def running(hosts: Sequence[Host]) -> list[str]:
    """The process ids that still run in the namespaces."""
    found: list[str] = []
    for host in hosts:
        told = subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True)
        found += told.stdout.split()
    return found
