"""Traces around what a door or an agent of the queue is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metainf.hosts.guards import Handler
from metainf.hosts.tracing import CURRENT, HEADER, begun, believed, flush

if TYPE_CHECKING:
    from aiohttp.web import Request, StreamResponse


def traced() -> Any:
    """A middleware of aiohttp: each question is a span, under the caller's trace where it names one."""
    from aiohttp import web

    @web.middleware
    async def tracing(request: "Request", handler: Handler) -> "StreamResponse":
        if request.method != "POST":
            return await handler(request)
        mark = begun("swarm.request", believed(request.headers.get(HEADER)), {"path": request.path[:100]})
        before, status = CURRENT.set(mark.trace), 500
        try:
            answer = await handler(request)
            status = answer.status
            return answer
        finally:
            CURRENT.reset(before)
            mark.end(None if status < 500 else f"status {status}", status=status)

    return tracing


@contextmanager
def closing_traces() -> Iterator[None]:
    """What is left of the traces is sent at the end."""
    try:
        yield
    finally:
        flush()
