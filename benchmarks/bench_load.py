"""What the measuring client costs: `python benchmarks/bench_load.py [STREAMS] [--rounds 5] [--json]`.

A fake server in a process of its own answers STREAMS (default 1,000) streams at once. Three clients read the
same traffic in turns, round after round: ours; the least that aiohttp allows (bytes are counted and thrown
away); and bare sockets that look for the end of the stream and nothing else. Twice: `flat out`, where the
server writes as fast as it can and shares the machine's cores with the client, and `paced`, where it writes
a piece of each stream every PACED_MS, as an engine does. Tokens per second are medians over the rounds, and
so are the ratios, which are taken within a round; CPU seconds are the client's own for 1,000 pieces.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import numpy as np
from measuring import machine, tell

from metainf.measure.drive import drive
from metainf.measure.timing import errors_of
from metainf.measure.traffic import of_study
from metainf.measure.words import ClosedLoop, Endpoint, Request, Traffic

PACED_MS = 250
TOKENS = 32
Read = Callable[[Traffic, str], Coroutine[Any, Any, int]]


def body_of(request: Request) -> bytes:
    """The same words that our client sends."""
    told = {"model": "fake", "prompt": request.prompt, "max_tokens": request.output_tokens, "temperature": 0}
    told |= {"stream": True, "ignore_eos": True, "stream_options": {"include_usage": True}}
    return json.dumps(told).encode()


async def ours(traffic: Traffic, url: str) -> int:
    """Tokens that the measuring client counts."""
    found = await drive(traffic, Endpoint(url, "fake"))
    assert not errors_of(found), errors_of(found)
    assert all(len(timing.chunk_s) == TOKENS for timing in found)
    return sum(timing.output_tokens or 0 for timing in found)


async def bare_aiohttp(traffic: Traffic, url: str) -> int:
    """aiohttp, with no clock, no parsing and nothing kept."""

    async def one(session: aiohttp.ClientSession, request: Request) -> None:
        async with session.post(f"{url}/v1/completions", data=body_of(request)) as response:
            assert response.status == 200
            while await response.content.readany():
                pass

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*[one(session, request) for request in traffic.requests])
    return sum(request.output_tokens for request in traffic.requests)


async def bare_sockets(traffic: Traffic, url: str) -> int:
    """A socket for each stream, read until `[DONE]`."""
    host, port = url.removeprefix("http://").split(":")

    async def one(request: Request) -> None:
        body = body_of(request)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        tail = b""
        while b"[DONE]" not in tail:
            piece = await reader.read(65536)
            assert piece, "the stream ended early"
            tail = tail[-8:] + piece
        writer.close()

    await asyncio.gather(*[one(request) for request in traffic.requests])
    return sum(request.output_tokens for request in traffic.requests)


CLIENTS: dict[str, Read] = {"ours": ours, "bare aiohttp": bare_aiohttp, "bare sockets": bare_sockets}


@contextmanager
def server(*words: str) -> Iterator[str]:
    """The address of a fake server."""
    command = [sys.executable, "-m", "metainf.testing.model_server", "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            found = re.search(r"http://(\S+)", child.stdout.readline())
            assert found
            yield found[0]
        finally:
            child.terminate()


def once(read: Read, traffic: Traffic, url: str) -> dict[str, float]:
    """Tokens per second, and the client's CPU seconds for 1,000 pieces."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = asyncio.run(read(traffic, url))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"tokens_per_s": tokens / wall, "cpu_s_per_1000": 1000 * cpu / tokens}


def compared(streams: int, rounds: int, itl_ms: float) -> dict[str, dict[str, float]]:
    """Medians of each client, after one round that is not counted; the ratios are ours over the other's."""
    traffic = of_study("short_chat", streams, ClosedLoop(streams), np.random.default_rng(0))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    with server("--itl-ms", str(itl_ms)) as url:
        for _ in range(rounds + 1):
            for name, read in CLIENTS.items():
                runs[name].append(once(read, traffic, url))
    found = {}
    for name, kept in runs.items():
        pairs = zip(runs["ours"][1:], kept[1:], strict=True)
        found[name] = {
            field: statistics.median(run[field] for run in kept[1:])
            for field in ("tokens_per_s", "cpu_s_per_1000")
        }
        found[name]["ours_over_it"] = statistics.median(
            a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("streams", nargs="?", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = {"flat out": 0.0, "paced": float(PACED_MS)}
    found: dict[str, Any] = {
        case: compared(options.streams, options.rounds, itl_ms) for case, itl_ms in cases.items()
    }
    if options.json:
        tell({"streams": options.streams, "rounds": options.rounds, "aiohttp": aiohttp.__version__, **found})
        return
    print(f"{options.streams} streams of {TOKENS} tokens at once, {options.rounds} rounds; {machine()}")
    print(f"{'':10}{'client':14}{'tokens/s':>10}{'ours / it':>11}{'CPU s / 1,000 pieces':>23}")
    for case, clients in found.items():
        for name, told in clients.items():
            print(
                f"{case:10}{name:14}{told['tokens_per_s']:10.0f}{told['ours_over_it']:11.3f}"
                f"{told['cpu_s_per_1000']:23.4f}"
            )


if __name__ == "__main__":
    main()
