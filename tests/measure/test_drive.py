"""Requests leave when the pacing says; failures are timings; a cancel leaves nothing behind."""

import asyncio
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="the extra `measure` is not installed")

from metainf.domain import BadInput, MissingExtra
from metainf.measure.client import Client
from metainf.measure.drive import Clock, drive, pace
from metainf.measure.timing import errors_of, metrics_of
from metainf.measure.traffic import of_study
from metainf.measure.words import ClosedLoop, Endpoint, OpenLoop, Pacing, Request, Timing, Traffic, Waves
from metainf.testing.model_server import Behaviour, ModelServer


class Simulated:
    """Time that passes only in sleeps; answers that take as many seconds as they have tokens."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.flying = self.most = 0
        self.order = count()
        self.due: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time_s

    async def sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.due.append((self.time_s + seconds, next(self.order), done))
        await done

    async def ask(self, request: Request) -> Timing:
        sent = self.time_s
        self.flying += 1
        self.most = max(self.most, self.flying)
        await self.sleep(request.output_tokens)
        self.flying -= 1
        return Timing(sent, self.time_s, text=request.prompt)

    async def run(self, requests: list[Request], pacing: Pacing) -> list[Timing]:
        work = asyncio.create_task(pace(requests, pacing, self.ask, Clock(self.now, self.sleep)))
        while not work.done():
            for _ in range(5):
                await asyncio.sleep(0)
            if self.due:
                first = min(self.due)
                self.due.remove(first)
                self.time_s = max(self.time_s, first[0])
                first[2].set_result(None)
        return await work


def simulated(requests: list[Request], pacing: Pacing) -> tuple[list[Timing], int]:
    world = Simulated()
    return asyncio.run(world.run(requests, pacing)), world.most


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@given(lengths, st.integers(1, 8))
def test_a_closed_loop_keeps_its_number_in_flight(tokens: list[int], concurrency: int) -> None:
    found, most = simulated([Request(str(i), n) for i, n in enumerate(tokens)], ClosedLoop(concurrency))
    assert [timing.text for timing in found] == [str(i) for i in range(len(tokens))]
    assert most == min(concurrency, len(tokens))
    free = [0.0] * concurrency
    for timing, n in zip(found, tokens, strict=True):
        assert timing.sent_s == min(free), "the next request leaves when a place is free"
        free[free.index(timing.sent_s)] += n


@given(lengths, st.integers(1, 8))
def test_waves_wait_for_their_last(tokens: list[int], size: int) -> None:
    found, most = simulated([Request(str(i), n) for i, n in enumerate(tokens)], Waves(size))
    assert most == min(size, len(tokens))
    start = 0.0
    for first in range(0, len(tokens), size):
        assert {timing.sent_s for timing in found[first : first + size]} == {start}
        start += max(tokens[first : first + size])


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 9)), min_size=1, max_size=20))
def test_an_open_loop_waits_for_nobody(arrivals: list[tuple[float, int]]) -> None:
    requests = [Request(str(i), n, at_s=at) for i, (at, n) in enumerate(arrivals)]
    found, _ = simulated(requests, OpenLoop())
    for timing, (at, n), i in zip(found, arrivals, range(len(found)), strict=True):
        assert timing.text == str(i)
        assert timing.sent_s == pytest.approx(at) and timing.ended_s == pytest.approx(at + n)


def test_a_request_that_leaves_late_counts_from_when_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    async def late(client: Client, request: Request, since: float) -> Timing:
        return Timing(1.0, 2.0, (1.5, 2.0))

    monkeypatch.setattr(Client, "ask", late)
    for pacing, sent in ((OpenLoop(), [0.25, 1.0]), (ClosedLoop(2), [1.0, 1.0])):
        traffic = Traffic("x", (Request("a", 2, 0.25), Request("b", 2, 1.25)), pacing)
        found = asyncio.run(drive(traffic, Endpoint("http://127.0.0.1:9", "x")))
        assert [timing.sent_s for timing in found] == sent


@pytest.mark.parametrize(
    ("requests", "pacing"),
    [
        ([Request("a", 1, 0.0), Request("b", 1)], OpenLoop()),
        ([Request("a", 1, float("nan"))], OpenLoop()),
        ([Request("a", 1)], ClosedLoop(0)),
        ([Request("a", 1)], Waves(0)),
    ],
)
def test_pacings_that_cannot_be_followed(requests: list[Request], pacing: Pacing) -> None:
    with pytest.raises(BadInput, match="expected"):
        asyncio.run(drive(Traffic("x", tuple(requests), pacing), Endpoint("http://127.0.0.1:9", "x")))


def driven(traffic: Traffic, behaviour: Behaviour) -> tuple[list[Timing], ModelServer, list[Timing]]:
    heard: list[Timing] = []

    async def run() -> tuple[list[Timing], ModelServer, list[Timing]]:
        async with ModelServer(behaviour) as server:
            endpoint = Endpoint(server.base_url, "fake")
            return await drive(traffic, endpoint, timeout_s=5, on_done=heard.append), server, heard

    return asyncio.run(run())


def requests(number: int, tokens: int = 4) -> tuple[Request, ...]:
    return tuple(Request(f"number {i} of them", tokens, at_s=0.002 * i) for i in range(number))


@pytest.mark.parametrize("pacing", [OpenLoop(), ClosedLoop(5), Waves(5)], ids=lambda it: type(it).__name__)
def test_traffic_reaches_a_server(pacing: Pacing) -> None:
    found, server, heard = driven(Traffic("x", requests(20), pacing), Behaviour(itl_s=0.002))
    assert not errors_of(found) and len(found) == 20
    assert sorted(heard, key=lambda it: it.sent_s) == sorted(found, key=lambda it: it.sent_s)
    assert {body["prompt"] for body in server.seen} == {request.prompt for request in requests(20)}
    assert isinstance(pacing, OpenLoop) or server.most_running <= 5
    metrics = metrics_of(found)
    assert metrics.output_tokens_per_s and metrics.ttft_p99_s and metrics.requests_per_s


def test_warming_goes_first_and_is_not_timed() -> None:
    traffic = of_study("shared_prefix_warm", 4, ClosedLoop(4), np.random.default_rng(0))
    found, server, _ = driven(traffic, Behaviour(prefix_cache=True))
    assert len(found) == 4 and len(server.seen) == 5
    assert server.seen[0]["prompt"] == traffic.warming[0].prompt
    assert server.counts["hits"] > 4 * 350, "of each prompt's words, all blocks but the last were warm"


def test_warming_that_fails_is_told_by_every_request() -> None:
    traffic = Traffic("x", requests(3), ClosedLoop(1), warming=requests(1))
    found, server, heard = driven(traffic, Behaviour(fail="unavailable"))
    (error,) = errors_of(found)
    assert len(found) == 3 and "warming request failed: HTTP 503" in error
    assert len(server.seen) == 1 and not heard


def test_failures_end_nothing() -> None:
    found, _, _ = driven(Traffic("x", requests(12), ClosedLoop(4)), Behaviour(fail="cut", fail_after=6))
    assert sum(errors_of(found).values()) == 6
    assert metrics_of(found).requests_per_s


def test_cancelling_leaves_no_connection() -> None:
    async def run() -> int:
        async with ModelServer(Behaviour(ttft_s=30)) as server:
            work = asyncio.create_task(
                drive(Traffic("x", requests(20), ClosedLoop(10)), Endpoint(server.base_url, "fake"))
            )
            while server.counts["running"] < 10:
                await asyncio.sleep(0.01)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            for _ in range(500):
                if not server.counts["running"]:
                    break
                await asyncio.sleep(0.01)
            return server.counts["running"]

    assert asyncio.run(run()) == 0


def test_an_error_of_the_listener_is_not_lost() -> None:
    def listen(_: Timing) -> None:
        raise KeyError("listener")

    async def run() -> None:
        async with ModelServer() as server:
            await drive(
                Traffic("x", requests(4), ClosedLoop(2)), Endpoint(server.base_url, "fake"), on_done=listen
            )

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run())
    assert caught.group_contains(KeyError)


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A fake in a process of its own, and its address."""
    command = [sys.executable, "-m", "metainf.testing.model_server", "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            said = child.stdout.readline()
            found = re.search(r"http://\S+", said)
            assert found, said
            yield child, found[0]
        finally:
            child.kill()


@pytest.fixture
def few_files() -> Iterator[None]:
    """The limit of open files that many systems start with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip(f"the system allows no more than {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_a_thousand_streams_at_once() -> None:
    rng = np.random.default_rng(1)
    traffic = of_study("short_chat", 1000, ClosedLoop(1000), rng)
    with process("--together", "1000") as (_, url):  # no answer begins before all are in flight
        found = asyncio.run(drive(traffic, Endpoint(url, "fake"), timeout_s=120))
    assert not errors_of(found)
    assert all(timing.output_tokens == 32 and len(timing.chunk_s) == 32 for timing in found)
    first_end = min(timing.ended_s for timing in found)
    assert all(timing.sent_s < first_end for timing in found), "they were in flight together"


def test_without_aiohttp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtra, match=r"metainf\[measure\]"):
        asyncio.run(drive(Traffic("x", requests(1), ClosedLoop(1)), Endpoint("http://127.0.0.1:9", "x")))


def test_a_server_that_dies() -> None:
    with process("--fail", "die", "--fail-after", "3") as (child, url):
        traffic = Traffic("x", requests(8), ClosedLoop(1))
        found = asyncio.run(drive(traffic, Endpoint(url, "fake"), timeout_s=20))
        assert child.wait(20) == 3
        assert child.stderr is not None and "out of memory" in child.stderr.read()
    assert [timing.error is None for timing in found] == [True] * 3 + [False] * 5
    assert found[3].error is not None and "broke" in found[3].error
    assert found[-1].error is not None and found[-1].error.startswith("could not connect")


def test_the_fake_says_so_and_refuses_a_taken_port() -> None:
    with process() as (_, url):
        port = url.rpartition(":")[2]
        command = [sys.executable, "-m", "metainf.testing.model_server", "--port", port]
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 98 and "address already in use" in second.stderr
    command = [sys.executable, "-m", "metainf.testing.model_server", "--fail", "exit"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 3 and "fake" in ended.stderr
