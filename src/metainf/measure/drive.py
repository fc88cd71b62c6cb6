"""Sends traffic to a server as its pacing says: warming first, then the timed requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from metainf.domain import BadInput
from metainf.measure.client import Client
from metainf.measure.words import ClosedLoop, Endpoint, OpenLoop, Pacing, Request, Timing, Traffic, Waves

Ask = Callable[[Request], Awaitable[Timing]]
OTHER_FILES = 256


@dataclass(frozen=True)
class Clock:
    """Seconds that only grow, and a way to wait for some of them."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


CLOCK = Clock()


async def drive(
    traffic: Traffic,
    endpoint: Endpoint,
    timeout_s: float = 600.0,
    on_done: Callable[[Timing], None] | None = None,
    clock: Clock = CLOCK,
) -> list[Timing]:
    """The timings of the traffic's requests, in their order, in seconds since the first could leave.

    A request of an open loop is sent when it is due, for its timing, however busy this process was then.
    `timeout_s` bounds each answer; `on_done` hears of each as it ends. Failures are timings with an `error`:
    where warming fails, no request is sent and all say so. Cancelling closes every connection.
    Raises BadInput for a pacing that the requests cannot follow, MissingExtra without aiohttp.
    """
    check(traffic.requests, traffic.pacing)
    allow_connections(_most_at_once(traffic.requests, traffic.pacing))
    async with Client(endpoint, timeout_s, clock.now) as client:
        for request in traffic.warming:
            warmed = await client.ask(request, clock.now())
            if warmed.error is not None:
                why = f"not sent, because a warming request failed: {warmed.error}"
                return [Timing(0.0, 0.0, error=why) for _ in traffic.requests]
        start = clock.now()

        async def ask(request: Request) -> Timing:
            timing = _since_due(request, await client.ask(request, start), traffic.pacing)
            if on_done is not None:
                on_done(timing)
            return timing

        return await pace(traffic.requests, traffic.pacing, ask, clock)


def _since_due(request: Request, timing: Timing, pacing: Pacing) -> Timing:
    """With the delay of sending in it, so that arrivals that pile up flatter nothing."""
    if not isinstance(pacing, OpenLoop) or request.at_s is None:
        return timing
    return replace(timing, sent_s=min(timing.sent_s, request.at_s))


def allow_connections(count: int) -> None:
    """Lift this process's own limit of open files, where it is too low for `count` connections, as far as the
    system lets it. Beyond that, connections fail and their timings say so."""
    try:
        import resource
    except ImportError:  # a system without such limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _most_at_once(requests: Sequence[Request], pacing: Pacing) -> int:
    if isinstance(pacing, OpenLoop):
        return len(requests)
    return min(pacing.concurrency if isinstance(pacing, ClosedLoop) else pacing.size, len(requests))


def check(requests: Sequence[Request], pacing: Pacing) -> None:
    """BadInput where requests cannot be sent in this way."""
    if isinstance(pacing, OpenLoop):
        missing = [i for i, request in enumerate(requests) if request.at_s is None or not request.at_s >= 0]
        if missing:
            raise BadInput(
                f"open loop: expected an arrival time of at least 0 s for each request, found "
                f"{requests[missing[0]].at_s} for request {missing[0]} ({len(missing)} such); "
                "give arrivals, or use a closed loop"
            )
    else:
        size = pacing.concurrency if isinstance(pacing, ClosedLoop) else pacing.size
        if size < 1:
            raise BadInput(f"pacing: expected at least one request at a time, found {size}")


async def pace(requests: Sequence[Request], pacing: Pacing, ask: Ask, clock: Clock = CLOCK) -> list[Timing]:
    """Ask each request when the pacing says; answers in the order of the requests."""
    if isinstance(pacing, OpenLoop):
        return await _open_loop(requests, ask, clock)
    if isinstance(pacing, Waves):
        found: list[Timing] = []
        for first in range(0, len(requests), pacing.size):
            wave = requests[first : first + pacing.size]
            found += await _kept_in_flight(wave, len(wave), ask)
        return found
    return await _kept_in_flight(requests, pacing.concurrency, ask)


async def _open_loop(requests: Sequence[Request], ask: Ask, clock: Clock) -> list[Timing]:
    """Each leaves at its time, or at once where that is past."""
    order = sorted(range(len(requests)), key=lambda i: requests[i].at_s or 0.0)
    start = clock.now()
    tasks: dict[int, asyncio.Task[Timing]] = {}
    async with asyncio.TaskGroup() as group:
        for i in order:
            wait_s = start + (requests[i].at_s or 0.0) - clock.now()
            if wait_s > 0:
                await clock.sleep(wait_s)
            tasks[i] = group.create_task(_asked(ask, requests[i]))
    return [tasks[i].result() for i in range(len(requests))]


async def _kept_in_flight(requests: Sequence[Request], count: int, ask: Ask) -> list[Timing]:
    """`count` workers take the next request as soon as their last is answered."""
    waiting = iter(range(len(requests)))
    found: dict[int, Timing] = {}

    async def work() -> None:
        for i in waiting:
            found[i] = await ask(requests[i])

    async with asyncio.TaskGroup() as group:
        for _ in range(min(count, len(requests))):
            group.create_task(work())
    return [found[i] for i in range(len(requests))]


async def _asked(ask: Ask, request: Request) -> Timing:
    """A coroutine of any awaitable, as tasks are made of coroutines only."""
    return await ask(request)
