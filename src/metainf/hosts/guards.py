"""What stands before a host that others reach: a key, names of this machine, errors in one shape."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from metainf.hosts.asked import Refusal
from metainf.hosts.openai import refused

if TYPE_CHECKING:
    from aiohttp.web import Request, StreamResponse

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/health", "/ready")
"""Paths that a supervisor asks without a key."""
BODY_S = 30.0
Handler = Callable[["Request"], Awaitable["StreamResponse"]]


def guard(api_key: str | None, public: bool, body_s: float = BODY_S) -> Any:
    """A middleware of aiohttp. Without a key only callers of this machine are served, under its own names: a
    page in a browser must not reach the host under a name of its own."""
    from aiohttp import web

    @web.middleware
    async def guarded(request: "Request", handler: Handler) -> "StreamResponse":
        try:
            if request.path not in OPEN:
                _admit(request, api_key, public)
            try:
                async with asyncio.timeout(body_s):
                    await request.read()
            except TimeoutError:
                told = f"expected the whole request within {body_s:.0f} s"
                return refused(Refusal(408, "invalid_request_error", "timeout", told))
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)
        except web.HTTPException as error:
            return refused(_shaped(request, error))

    return guarded


def _admit(request: "Request", api_key: str | None, public: bool) -> None:
    if api_key is not None:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(key.strip().encode(), api_key.encode())
        if kind.lower() != "bearer" or not right:
            told = "expected Authorization: Bearer KEY with this server's key"
            raise Refusal(401, "authentication_error", "invalid_api_key", told)
    elif not public and (request.url.host or "") not in LOOPBACK:
        told = f"expected a name of this machine as Host, found {request.host[:80]}"
        raise Refusal(403, "invalid_request_error", "foreign_host", told)


def _shaped(request: "Request", error: Any) -> Refusal:
    told = {
        404: "expected a path of OpenAI's API, such as /v1/chat/completions",
        405: f"expected another method than {request.method} for {request.path[:80]}",
        413: f"the request is too large: {error.text}",
    }
    code = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
    status = int(error.status)
    return Refusal(status, "invalid_request_error", code.get(status), told.get(status, str(error.reason)))
