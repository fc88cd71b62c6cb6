"""What the gateway adds to a request: one fake model server asked directly and through the gateway, in turns.

    python benchmarks/bench_gateway.py [--rounds 10] [--seconds 2] [--rate 200] [--write docs/gateway.md]

The fake server (`metainf.testing.model_server`: words by the clock, no model), `metainf gateway` and this
client are three processes on the same machine. In each round both ways get the same requests in an open
loop, at the same rate with arrivals by chance; which comes first changes from round to round. Times run from
when a request was due. What is added is the difference of the medians within a round; its noise is the spread
of that over the rounds, beside how much the direct median itself moves from round to round. Rounds during
which other programs used more than BUSY of the cores do not count, where there are enough others.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from gateway_page import ITL_MS, TOKENS, TTFT_MS, page
from measuring import machine

from metainf.measure.client import Client
from metainf.measure.drive import Clock, allow_connections, pace
from metainf.measure.words import Endpoint, OpenLoop, Request, Timing

BUSY, LEAST, MOST_WAITS = 0.25, 3, 50
"""Share of the cores beside which a round is quiet; with fewer quiet rounds than LEAST all count, and the
page says so."""
AT = re.compile(r"(?:listens at|on) (https?://\S+)")
BEGIN, END = "<!-- made by benchmarks/bench_gateway.py -->", "<!-- end of what it made -->"
MODEL = "Llama-3.1-8B-Instruct"
PROMPT = "The old river runs slow past green fields and a small town where people wait for rain. " * 8


@dataclass(frozen=True)
class Part:
    """What one way showed in one round, in milliseconds."""

    ttft_ms: float
    e2e_ms: float
    ttft_p99_ms: float
    errors: int


@contextlib.contextmanager
def process(*words: str) -> Iterator[tuple[str, psutil.Process]]:
    """A process that says where it listens; its address, and itself."""
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=log, text=True,
            env={**os.environ, "METAINF_OFFLINE": "1"},
        )  # fmt: skip
        try:
            assert child.stdout is not None
            found = next((at for line in child.stdout if (at := AT.search(line))), None)
            if found is None:
                log.seek(0)
                raise SystemExit(f"{words[0]} did not start:\n{log.read()[-2000:]}")
            yield found[1], psutil.Process(child.pid)
        finally:
            child.terminate()
            child.wait(30)


def arrivals(rate_per_s: float, seconds: float, seed: int) -> list[Request]:
    """Requests by chance, so many in a second on average."""
    rng, at_s, found = random.Random(seed), 0.0, list[Request]()
    while (at_s := at_s + rng.expovariate(rate_per_s)) < seconds:
        found.append(Request(f"{len(found)} {PROMPT}", TOKENS, at_s))
    return found


async def drive(client: Client, requests: Sequence[Request]) -> list[tuple[Request, Timing]]:
    """The requests, each when it is due."""
    start = time.perf_counter()

    async def ask(request: Request) -> Timing:
        return await client.ask(request, start)

    return list(zip(requests, await pace(requests, OpenLoop(), ask, Clock()), strict=True))


def part(found: Sequence[tuple[Request, Timing]]) -> Part:
    """Medians of what came back, from when each was due."""
    good = [(request.at_s or 0.0, timing) for request, timing in found if timing.error is None]
    first = sorted((timing.chunk_s[0] - due) * 1e3 for due, timing in good)
    whole = [(timing.ended_s - due) * 1e3 for due, timing in good]
    late = first[min(len(first) - 1, round(0.99 * len(first)))]
    return Part(statistics.median(first), statistics.median(whole), late, len(found) - len(good))


class Others:
    """How much of all cores programs use that have nothing to do with this."""

    def __init__(self, mine: Sequence[psutil.Process]) -> None:
        self._mine = [psutil.Process(), *mine]
        self._last = self._now()

    def _now(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        spared = ("iowait", "irq", "softirq", "steal")  # the kernel's own: most of it passes on our bytes
        idle = times.idle + sum(getattr(times, name, 0.0) for name in spared)
        return time.perf_counter(), idle, sum(cpu_s(each) for each in self._mine)

    def share(self) -> float:
        """Since the last look, of all cores."""
        (begun_s, idle_s, mine_s), now = self._last, self._now()
        self._last = now
        whole_s = (now[0] - begun_s) * (os.cpu_count() or 1)
        return max(0.0, 1 - (now[1] - idle_s) / whole_s - (now[2] - mine_s) / whole_s)


async def _quiet(others: Others) -> None:
    """Wait until others leave the cores alone, for a while."""
    for _ in range(MOST_WAITS):
        others.share()
        await asyncio.sleep(0.3)
        if others.share() <= BUSY:
            break


async def rounds(
    ways: dict[str, Endpoint], others: Others, options: argparse.Namespace
) -> list[tuple[float, dict[str, Part]]]:
    """All rounds after one that warms, each with the share of the cores that others used."""
    made: list[tuple[float, dict[str, Part]]] = []
    until = time.perf_counter() + options.patience
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(Client(endpoint, 60)) for name, endpoint in ways.items()
        }
        number = 0
        while sum(share <= BUSY for share, _ in made) < options.rounds and time.perf_counter() < until:
            requests = arrivals(options.rate, options.seconds, number)
            await _quiet(others)
            found = {}
            for name in sorted(clients, reverse=bool(number % 2)):
                found[name] = part(await drive(clients[name], requests))
                await asyncio.sleep(0.2)
            share = others.share()
            number += 1
            print(f"round {number}: others used {share:.0%} of the cores: {found}", file=sys.stderr)
            if number > 1:
                made.append((share, found))
    return made


def summed(made: Sequence[dict[str, Part]]) -> dict[str, Any]:
    """Medians over the rounds, what is added in each, and how much that varies."""
    report: dict[str, Any] = {}
    for metric in ("ttft_ms", "e2e_ms"):
        direct = [getattr(each["direct"], metric) for each in made]
        routed = [getattr(each["gateway"], metric) for each in made]
        added = [b - a for a, b in zip(direct, routed, strict=True)]
        report[metric] = {
            "direct": round(statistics.median(direct), 3),
            "gateway": round(statistics.median(routed), 3),
            "added": round(statistics.median(added), 3),
            "added_least": round(min(added), 3),
            "added_most": round(max(added), 3),
            "direct_spread": round(statistics.stdev(direct), 3),
        }
    for name in ("direct", "gateway"):
        report[f"ttft_p99_ms_{name}"] = round(statistics.median(each[name].ttft_p99_ms for each in made), 2)
        report[f"errors_{name}"] = sum(each[name].errors for each in made)
    return report


def cpu_s(process_: psutil.Process) -> float:
    """Processor time so far."""
    times = process_.cpu_times()
    return float(times.user + times.system)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Start both servers, and compare."""
    fake_words = (
        "metainf.testing.model_server",
        "--port",
        "0",
        "--ttft-ms",
        str(TTFT_MS),
        "--itl-ms",
        str(ITL_MS),
    )
    with tempfile.TemporaryDirectory() as scratch, process(*fake_words) as (fake, server):
        file = Path(scratch) / "endpoints.toml"
        table = {"name": "fake", "url": fake, "model": MODEL, "served_as": "fake", "hardware": "1xL4"}
        table |= {"engine": "vllm"}
        file.write_text(
            "[[endpoint]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
        )
        store = str(Path(scratch) / "records.sqlite")
        words = ("metainf", "gateway", "--endpoints", str(file), "--port", "0", "--store", store)
        with process(*words) as (url, gateway):
            time.sleep(3)
            before = cpu_s(gateway)
            ways = {"direct": Endpoint(fake, "fake"), "gateway": Endpoint(url, MODEL)}
            made = asyncio.run(rounds(ways, Others([server, gateway]), options))
            used = cpu_s(gateway) - before
        quiet = [(share, found) for share, found in made if share <= BUSY]
        counted = quiet if len(quiet) >= LEAST else made
        if len(counted) < LEAST:
            raise SystemExit(f"expected {LEAST} rounds, found {len(counted)}: --patience")
        report = summed([found for _, found in counted])
        report |= {"rounds": len(counted), "all_rounds": len(made), "quiet": counted is quiet}
        report["others_share"] = round(statistics.median(share for share, _ in counted), 3)
        share, best = min(counted, key=lambda each: each[0])
        added = best["gateway"].ttft_ms - best["direct"].ttft_ms
        report["quietest"] = {"share": round(share, 3), "added_ttft_ms": round(added, 2)}
        report["records_kept"] = kept(store)
        report["gateway_cpu_ms_per_request"] = round(used / report["records_kept"] * 1e3, 2)
    return report


def kept(store: str) -> int:
    """Records in the store after the end."""
    from metainf import api

    with api.store(store) as opened:
        return opened.count()


def main() -> None:
    """Measure, print, and write the section where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to wait for quiet rounds")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    allow_connections(4096)
    report = {"machine": machine(), "options": vars(options) | {"write": None}}
    report |= measured(options)
    print(json.dumps(report, indent=1))
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        tail = rest.partition(END)[2]
        options.write.write_text(f"{head}{BEGIN}\n{page(report)}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
