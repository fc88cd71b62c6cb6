"""What the swarm's directories cost with many nodes, and whether those who left stay as ghosts.

python benchmarks/bench_swarm_directory.py [nats|dht ...] [--records 1000] [--exits 100]
    [--write docs/swarm.md]
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from swarm_stages import Lines, placed

from metainf.swarm.host.nats import started
from metainf.swarm.net.bucket import NatsDirectory
from metainf.swarm.net.dht import HivemindDirectory
from metainf.swarm.net.records import LIFETIME_S, NODES, Directory, nodes
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import Identity
from metainf.testing.light_members import Crowd, exactly, word

LIVES_S = 120.0
BEGIN, END = "<!-- made by benchmarks/bench_swarm_directory.py -->", "<!-- end of its figures -->"
LINES = Lines()


def announcements(count: int) -> dict[str, bytes]:
    """Sealed announcements of so many nodes, which stay good while this runs."""
    made = {}
    for _ in range(count):
        who = Identity(os.urandom(32))
        made[f"{NODES}{who.node}"] = word(who, certify(who, time.time()), (1, 1), LIVES_S)
    return made


async def until_all(directory: Directory, wanted: dict[str, bytes]) -> float:
    """Seconds until a member sees them all."""
    begun = time.perf_counter()
    while len((await directory.records()).keys() & wanted.keys()) < len(wanted):
        await asyncio.sleep(0.02)
    return time.perf_counter() - begun


async def put_all(directory: Directory, wanted: dict[str, bytes], at_once: int = 50) -> float:
    """Seconds to put them all."""
    begun, left = time.perf_counter(), list(wanted.items())
    while left:
        part, left = left[:at_once], left[at_once:]
        await asyncio.gather(*(directory.put(key, record) for key, record in part))
    return time.perf_counter() - begun


async def key_by_key(directory: Any) -> float:
    """Seconds to read a bucket of NATS as one does without a copy."""
    begun = time.perf_counter()
    for key in await directory._bucket.keys():
        await directory._bucket.get(key)
    return time.perf_counter() - begun


async def read_again(directory: Directory, tries: int = 20) -> float:
    """Milliseconds of `records` at a member that has them."""
    begun = time.perf_counter()
    for _ in range(tries):
        await directory.records()
    return (time.perf_counter() - begun) / tries * 1000


async def cost(kind: str, url: str, count: int) -> None:
    """Put and read many records."""
    wanted = announcements(count)
    size = sum(map(len, wanted.values()))
    first: Any = await member(kind, url)
    address = url or first.join_address
    put_s = await put_all(first, wanted)
    begun = time.perf_counter()
    second: Any = await member(kind, address)
    joined_s = time.perf_counter() - begun
    seen_s = await until_all(second, wanted)
    LINES.say(f"{kind}: {count} records, {size / count:.0f} bytes each, {size / 2**20:.2f} MiB")
    LINES.say(f"  put, 50 at once             {put_s:8.2f} s")
    LINES.say(f"  a new member joins          {joined_s:8.2f} s, has all {seen_s:.2f} s later")
    LINES.say(f"  read again                  {await read_again(second):8.2f} ms")
    if kind == "nats":
        LINES.say(f"  read key by key, for comparison {await key_by_key(second):4.2f} s")
    else:
        await asyncio.sleep(8.0)
        LINES.say(f"  a round of the program      {second.round_s:8.2f} s")
    begun = time.perf_counter()
    believed = len(nodes(await second.records(), time.time()))
    LINES.say(f"  check {believed} signatures     {time.perf_counter() - begun:8.2f} s")
    await asyncio.gather(first.close(), second.close())


async def member(kind: str, url: str, lifetime_s: float = LIVES_S) -> Directory:
    """One; of a new hash table where there is no address."""
    if kind == "nats":
        return await NatsDirectory.join(url, lifetime_s)
    return await HivemindDirectory.join(url or "dht://127.0.0.1:0", lifetime_s=lifetime_s)


async def ghosts(kind: str, url: str, exits: int) -> None:
    """Members that go and come, killed or not, with the lifetime of real nodes."""
    reader: Any = await member(kind, url, LIFETIME_S)
    crowd = Crowd.of(url or reader.join_address, LIFETIME_S, random.Random(6))
    try:
        for _ in range(10):
            crowd.comes()
        await exactly(reader, lambda: set(crowd.alive), 60.0)
        begun = time.perf_counter()
        await asyncio.to_thread(crowd.churn, exits, 5)
        took_s = time.perf_counter() - begun
        exact_s = await exactly(reader, lambda: set(crowd.alive), 60.0)
        LINES.say(f"{kind}: {crowd.exits} exits and rejoins in {took_s:.1f} s")
        LINES.say(f"  the directory lists exactly those who live {exact_s:.1f} s later")
    finally:
        crowd.end()
        await reader.close()


def main(kinds: list[str], count: int, exits: int) -> None:
    """Both parts, for each kind."""
    LINES.say(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; a table of two members")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            for number, part in enumerate((cost, ghosts)):
                where = Path(folder) / str(number)
                where.mkdir()
                server = started(where) if kind == "nats" else None
                try:
                    asyncio.run(part(kind, server.url if server else "", (count, exits)[number]))
                finally:
                    if server:
                        server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", help="nats, dht; both without")
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--exits", type=int, default=100)
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    main(told.kinds or ["nats", "dht"], told.records, told.exits)
    if told.write:
        placed(told.write, BEGIN, END, LINES.block())
