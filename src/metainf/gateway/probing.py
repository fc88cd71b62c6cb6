"""Asks every endpoint how it is, again and again."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from metainf.gateway.words import Endpoint

PATHS = ("/health", "/v1/models")
"""Of a server without the first the second is asked."""
ABSENT = (404, 405, 501)
PROBE_S = 2.0
FAILURES = 2
"""Probes in a row that must fail before an endpoint counts as down; one that answers is up at once."""


async def answers(connections: aiohttp.ClientSession, endpoint: Endpoint, headers: Mapping[str, str]) -> bool:
    """Whether an endpoint says that it is well."""
    for path in PATHS:
        try:
            async with (
                asyncio.timeout(PROBE_S),
                connections.get(endpoint.url + path, headers=headers) as response,
            ):
                if response.status not in ABSENT:
                    return response.status < 400
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False
    return False


async def watch(
    ask: Callable[[], Awaitable[bool]], tell: Callable[[bool], None], every_s: float, up: bool
) -> None:
    """Ask for ever, after a first probe that found it `up` or not. `tell` hears what each comes to."""
    failed = 0 if up else FAILURES
    while True:
        await asyncio.sleep(every_s)
        failed = 0 if await ask() else failed + 1
        tell(failed < FAILURES)
