"""The service under load: a steady rate of selections, new questions between known ones, wrong requests.

    python benchmarks/bench_service.py [SECONDS] [REQUESTS_PER_S] [WRONG] [PAGE]

Starts `metainf serve` with a store of its own and asks it over loopback from this process, on the same
machine. Requests leave by a clock and not when the one before has been answered, and a time runs from when
the request was due. `known` asks again what was asked before (DISTINCT questions): the same question has the
same answer, and the service keeps it. `mixed` asks NEW_PER_S new questions a second besides, each of which
is worked out; `new` asks nothing but new ones, one after another. `wrong` sends requests that are wrong
for certain and looks at the memory of the service before, halfway and after.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from measuring import machine, tell

from metainf.service.routes.choosing import PAIRS, QUESTION, SIZE
from metainf.service.routes.records import EXAMPLE
from metainf.testing.malformed import Request, malformed

CONNECTIONS, DISTINCT, NEW_PER_S = 32, 64, 2.0
END = "<!-- end of what it made -->"
BEGINS = {
    "known": "<!-- made by benchmarks/bench_service.py -->",
    "wrong": "<!-- made by benchmarks/bench_service.py 0 0 -->",
}
"""Where the page's two parts begin, by what was measured for them."""
MACHINES = (["1-4xL4", "H100"], ["2xA100-80GB"], ["1-2xL40S", "H200"], ["MI300X"])
QUESTIONS = {"/v1/select": QUESTION, "/v1/size": SIZE, "/v1/predict": PAIRS, "/v1/explain": PAIRS}


def question(number: int) -> bytes:
    """A question of its own for each number."""
    load = {"concurrency": 1 + number % 97, "output_tokens": {"mean": 100.0 + number}}
    hardware = MACHINES[number % len(MACHINES)]
    asked = QUESTION | {"changes": load, "hardware": hardware, "objective": {}, "top": 3}
    return json.dumps(asked).encode()


def select(number: int) -> bytes:
    """The request that asks it."""
    return http(Request("POST", "/v1/select", "application/json", question(number)))


def http(one: Request) -> bytes:
    """A request as bytes."""
    head = f"{one.method} {one.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {one.content_type}\r\n"
    return f"{head}Content-Length: {len(one.body)}\r\n\r\n".encode() + one.body


class Connection:
    """One connection that is kept open."""

    def __init__(self, url: str) -> None:
        self._where = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, text: bytes) -> int:
        """The status of the answer; 0 where the connection broke. One that was kept may have been closed
        meanwhile, and is opened again."""
        kept = self._streams is not None
        status = await self._once(text)
        return await self._once(text) if kept and not status else status

    async def _once(self, text: bytes) -> int:
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(
                    self._where.hostname, self._where.port, limit=2**24
                )
            reader, writer = self._streams
            writer.write(text)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            if b"connection: close" in head.lower():
                await self.close()
            return int(head[9:12])
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await self.close()
            return 0

    async def close(self) -> None:
        """Let go."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Load:
    """Requests that leave by a clock."""

    def __init__(self, url: str) -> None:
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(Connection(url))
        self.times_s: list[float] = []
        self.statuses: Counter[int] = Counter()

    async def one(self, text: bytes, due_s: float, counts: bool = True) -> None:
        """One request that was due then."""
        connection = await self._free.get()
        try:
            status = await connection.ask(text)
        finally:
            self._free.put_nowait(connection)
        self.statuses[status] += 1
        if counts:
            self.times_s.append(time.perf_counter() - due_s)

    async def known(self, seconds: float, rate_per_s: float) -> None:
        """Questions that were asked before, at a rate."""
        rng, start, tasks = random.Random(1), time.perf_counter(), set()
        texts = [select(number) for number in range(DISTINCT)]
        for number in range(math.ceil(seconds * rate_per_s)):
            due_s = start + number / rate_per_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            task = asyncio.create_task(self.one(rng.choice(texts), due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def new(self, seconds: float, rate_per_s: float) -> None:
        """Questions that were never asked, at a rate; their times are not counted."""
        for number in range(math.ceil(seconds * rate_per_s)):
            await self.one(select(DISTINCT + number), time.perf_counter(), counts=False)
            await asyncio.sleep(1 / rate_per_s)

    def report(self) -> dict[str, Any]:
        """What came of it."""
        times = np.array(self.times_s) * 1e3
        shown = {f"p{p}_ms": round(float(np.percentile(times, p)), 2) for p in (50, 90, 99)}
        wrong = sum(count for status, count in self.statuses.items() if status != 200)
        return {"requests": len(times), "errors": wrong, **shown, "max_ms": round(float(times.max()), 2)}


@contextlib.contextmanager
def service(folder: Path) -> Iterator[tuple[str, int]]:
    """URL and process id of a service with a store of its own."""
    command = [sys.executable, "-m", "metainf", "serve", "--port", "0", "--rate", "none"]
    command += ["--store", str(folder / "records.sqlite")]
    with (folder / "log").open("w", encoding="utf-8") as log:
        told = {**os.environ, "METAINF_OFFLINE": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=told)
    assert process.stdout is not None
    found = re.search(r"listens at (\S+)", process.stdout.readline())
    assert found is not None, (folder / "log").read_text(encoding="utf-8")
    try:
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait(30)


async def ready(url: str) -> None:
    """Wait until it answers."""
    connection = Connection(url)
    text = http(Request("GET", "/ready", "application/json", b""))
    while await connection.ask(text) != 200:
        await asyncio.sleep(0.1)
    await connection.close()


def used(process: int) -> tuple[float, float]:
    """Memory in MiB and seconds of processor time of a process so far."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    memory = re.search(r"VmRSS:\s+(\d+) kB", status)
    times = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    ticks = int(times[11]) + int(times[12])
    return (int(memory[1]) / 1024 if memory else math.nan), ticks / os.sysconf("SC_CLK_TCK")


async def first_time(url: str, numbers: range) -> list[float]:
    """Seconds for each new question, one after another."""
    load = Load(url)
    for number in numbers:
        await load.one(select(number), time.perf_counter())
    assert set(load.statuses) == {200}, load.statuses
    return load.times_s


async def soak(url: str, process: int, seconds: float, rate_per_s: float, new_per_s: float) -> dict[str, Any]:
    """Known questions at a rate, and new ones beside them."""
    load, before = Load(url), used(process)[1]
    asked = [load.known(seconds, rate_per_s)] + ([load.new(seconds, new_per_s)] if new_per_s else [])
    await asyncio.gather(*asked)
    share = (used(process)[1] - before) / seconds
    return load.report() | {"service_cores": round(share, 2), "machine_load": round(os.getloadavg()[0], 2)}


async def wrong(url: str, process: int, how_many: int) -> dict[str, Any]:
    """Requests that are wrong; what they are answered, and what they leave in memory."""
    connection, statuses = Connection(url), Counter[int]()
    memory = [used(process)[0]]
    for number, one in enumerate(islice(malformed(1, QUESTIONS, [EXAMPLE]), how_many), 1):
        statuses[await connection.ask(http(one))] += 1
        if number % max(1, how_many // 4) == 0:
            memory.append(used(process)[0])
    return {
        "requests": how_many,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "not_4xx": sum(count for status, count in statuses.items() if not 400 <= status < 500),
        "memory_mib": [round(each, 1) for each in memory],
    }


async def measure(url: str, process: int, seconds: float, rate_per_s: float, how_many: int) -> dict[str, Any]:
    """All parts, one after another."""
    await ready(url)
    found: dict[str, Any] = {"seconds": seconds, "rate_per_s": rate_per_s}
    if seconds > 0:
        times = await first_time(url, range(DISTINCT))
        found["new"] = {"questions": DISTINCT, "median_s": round(float(np.median(times)), 3)}
        found["known"] = await soak(url, process, seconds, rate_per_s, 0.0)
        found["mixed"] = await soak(url, process, seconds / 3, rate_per_s, NEW_PER_S)
    if how_many:
        found["wrong"] = await wrong(url, process, how_many)
    return found


def section(found: dict[str, Any]) -> str:
    """The lines of docs/service.md, from what was measured."""
    about, asked = machine(), f"{found['seconds']:g} {found['rate_per_s']:g} 0"
    told = [
        f"`python benchmarks/bench_service.py {asked} docs/service.md` on {about['cores']} cores "
        f"({about['processor']}), which the asking process shares; the service runs with `--rate none`, "
        "as one address asks it all:",
        "",
        "| questions | requests | errors | p50, ms | p99, ms | slowest, ms | cores of the service | load |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in ("known", "mixed"):
        one = found[name]
        told.append(
            f"| {name} | {one['requests']:,} | {one['errors']} | {one['p50_ms']} | {one['p99_ms']} | "
            f"{one['max_ms']} | {one['service_cores']} | {one['machine_load']} |"
        )
    new_ms = 1000 * found["new"]["median_s"]
    told += [
        "",
        f"*Mixed* has new questions among the known ones; a new one alone takes {new_ms:.0f} ms. *Load* is "
        "the machine's at the end, over a minute, with both processes in it.",
    ]
    return "\n".join(told)


def refused(found: dict[str, Any]) -> str:
    """The lines of docs/service.md about wrong requests."""
    wrong, about = found["wrong"], machine()
    answered = ", ".join(f"{status} ({count:,})" for status, count in wrong["statuses"].items())
    first, *later = (f"{each:.0f}" for each in wrong["memory_mib"])
    return "\n".join(
        [
            f"`python benchmarks/bench_service.py 0 0 {wrong['requests']} docs/service.md` on "
            f"{about['cores']} cores ({about['processor']}):",
            f"{wrong['requests']:,} wrong requests were answered {answered}; answers that are no refusal: "
            f"{wrong['not_4xx']}. The service ran with `--rate none`; the load was {about['load']}.",
            f"The service held {first} MiB before, and {', '.join(later)} MiB after each quarter of them.",
        ]
    )


def main(seconds: float, rate_per_s: float, how_many: int, page: Path | None = None) -> None:
    """Measure and print; write the section into a page where one is named."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as (url, process):
        found = asyncio.run(measure(url, process, seconds, rate_per_s, how_many))
    tell(found)
    for part, say in (("known", section), ("wrong", refused)):
        if page is not None and part in found:
            head, _, rest = page.read_text(encoding="utf-8").partition(BEGINS[part])
            told = f"{head}{BEGINS[part]}\n{say(found)}\n{END}{rest.partition(END)[2]}"
            page.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    given = sys.argv[1:]
    if len(given) >= 3:
        main(float(given[0]), float(given[1]), int(given[2]), Path(given[3]) if len(given) > 3 else None)
    else:
        main(60.0, 500.0, 10_000)
