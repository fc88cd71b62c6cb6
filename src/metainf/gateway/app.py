"""The gateway's application: OpenAI's paths, and what supervisors and Prometheus ask for."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from metainf import __version__
from metainf.api.problems import problem_of
from metainf.domain import MetaInfError, UnknownName
from metainf.gateway.answering import Answering, error_of, gone
from metainf.gateway.observing import RouteGauges
from metainf.gateway.running import Gateway
from metainf.gateway.settings import GatewaySettings
from metainf.gateway.shown import endpoints_shown, models_shown
from metainf.gateway.wanted import read_asked
from metainf.gateway.words import Endpoint
from metainf.service.access import Slower
from metainf.service.bodies import JSON, body
from metainf.service.observing import Observed
from metainf.service.settings import LOOPBACK
from metainf.store.keys import Scope as KeyScope

LOG = logging.getLogger("metainf.gateway")
ASKING: KeyScope = "write"
LOOKING: KeyScope = "read"
"""Scopes: a completion costs money and adds to the history."""
COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
OWN_ERROR = "an error of the gateway; its log tells more"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Answer = Callable[[Gateway, Request], Awaitable[Response]]


def create_app(endpoints: tuple[Endpoint, ...], settings: GatewaySettings) -> ASGIApp:
    """The application before these endpoints. Opens nothing before it starts."""
    gauges = RouteGauges()
    gateway = Gateway(endpoints, settings, gauges)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    routes = [
        Route(path, Looked(gateway, path, answer, needs_key), methods=["GET"])
        for path, answer, needs_key in (
            ("/v1/models", _models, True),
            ("/v1/endpoints", _endpoints, True),
            ("/metrics", _metrics, True),
            ("/health", _health, False),
            ("/ready", _ready, False),
        )
    ]
    rest = Starlette(
        routes=[*routes, *(Route(path, _only_post, methods=["POST"]) for path in COMPLETIONS)],
        lifespan=life,
        exception_handlers={404: _absent, 405: _absent, Exception: _unforeseen},
    )
    app: ASGIApp = Front(rest, {path: Completions(gateway, path) for path in COMPLETIONS})
    if not settings.public:
        # A page in a browser here must not reach the gateway under a name of its own.
        app = TrustedHostMiddleware(app, allowed_hosts=[*LOOPBACK, "[::1]"], www_redirect=False)
    return Observed(app, gauges)


class Front:
    """Completions go straight to where they are answered: what Starlette puts around each piece of a stream
    takes longer than the piece does."""

    def __init__(self, rest: ASGIApp, straight: "dict[str, Completions]") -> None:
        self._rest, self._straight = rest, straight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        straight = self._straight.get(scope["path"]) if scope["type"] == "http" else None
        post = straight is not None and scope["method"] == "POST"
        await (straight if post and straight is not None else self._rest)(scope, receive, send)


class Completions:
    """POST of a completion, chat or plain."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self._gateway, self.path = gateway, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = time.perf_counter()
        scope["route"] = self
        request, answering = Request(scope, receive), Answering(send)
        settings = self._gateway.settings
        try:
            await _enter(self._gateway, request, ASKING)
            text = await body(request, JSON, settings.most_body, settings.body_timeout_s)
            asked = read_asked(text, scope["headers"])
            job = asyncio.ensure_future(self._gateway.router.route(asked, self.path, answering, began_s))
            request.state.told = await _unless_gone(job, receive)
        except MetaInfError as error:
            if not answering.begun:
                status, told, headers = _refusal(error)
                await answering.refuse(status, told["message"], told["type"], told["code"], headers)
        except ClientDisconnect:
            return
        except Exception:
            LOG.exception("an error of MetaInf's own")
            if not answering.begun:
                await answering.refuse(500, OWN_ERROR, "api_error", "internal")


class Looked:
    """GET of what the gateway tells of itself."""

    def __init__(self, gateway: Gateway, path: str, answer: Answer, needs_key: bool) -> None:
        self._gateway, self.path, self._answer, self._needs_key = gateway, path, answer, needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        request = Request(scope, receive)
        try:
            if self._needs_key:
                await _enter(self._gateway, request, LOOKING)
            response = await self._answer(self._gateway, request)
        except MetaInfError as error:
            status, told, headers = _refusal(error)
            more = {name.decode(): value.decode() for name, value in headers}
            response = JSONResponse({"error": told}, status, more)
        await response(scope, receive, send)


async def _unless_gone(job: "asyncio.Future[dict[str, Any]]", receive: Receive) -> dict[str, Any]:
    """What the job tells. It is cancelled where the caller goes away first, or this is cancelled."""
    watcher = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait((job, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            job.cancel()
            await asyncio.wait((job,))
        return {"result": "left"} if job.cancelled() else job.result()
    finally:
        watcher.cancel()
        if not job.done():
            job.cancel()
            await asyncio.wait((job,))


async def _enter(gateway: Gateway, request: Request, scope: KeyScope) -> None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    text = key.strip() if kind.lower() == "bearer" and key.strip() else None
    if text is not None and not await gateway.doors.locked():
        text = None  # OpenAI's clients send some key always
    caller = await gateway.doors.enter(request, text, scope)
    request.state.caller = caller.key_id


def _refusal(error: MetaInfError) -> tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]:
    """An error of the house as OpenAI's error object, its status and headers."""
    problem = problem_of(error)
    status, code, kind = problem.status, problem.kind.replace("-", "_"), "invalid_request_error"
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, UnknownName) and error.kind == "served model":
        status, code = 404, "model_not_found"
    elif status == 422:
        status = 400
    if status == 401:
        kind = "authentication_error"
        headers.append((b"www-authenticate", b"Bearer"))
    elif status == 429:
        kind = "rate_limit_error"
        headers.append((b"retry-after", str(error.wait_s if isinstance(error, Slower) else 1).encode()))
    elif status >= 500:
        kind = "api_error"
    return status, error_of(problem.detail, kind, code)["error"], headers


async def _only_post(request: Request) -> Response:
    """Never reached: `Front` takes POST, and this is there so that others are told what is allowed."""
    raise AssertionError("a completion went past the front")


async def _models(gateway: Gateway, request: Request) -> Response:
    return JSONResponse(models_shown(gateway.endpoints))


async def _endpoints(gateway: Gateway, request: Request) -> Response:
    return JSONResponse(endpoints_shown(gateway.board, time.monotonic()))


async def _metrics(gateway: Gateway, request: Request) -> Response:
    gateway.count()
    return Response(gateway.gauges.text(), media_type=PROMETHEUS)


async def _health(gateway: Gateway, request: Request) -> Response:
    return JSONResponse({"status": "ok", "version": __version__})


async def _ready(gateway: Gateway, request: Request) -> Response:
    up = [name for name, standing in gateway.board.standings.items() if standing.up]
    if gateway.ready and up:
        return JSONResponse({"status": "ready", "version": __version__, "endpoints": up})
    why = "no endpoint answers its probe" if gateway.ready else "the first forecasts are being made"
    return JSONResponse(error_of(why, "api_error", "not_ready"), 503, {"retry-after": "1"})


async def _absent(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    told = "expected POST /v1/chat/completions or /v1/completions, GET /v1/models, /v1/endpoints or /metrics"
    code = "not_found" if status == 404 else "method_not_allowed"
    return JSONResponse(
        error_of(told, "invalid_request_error", code), status, getattr(error, "headers", None)
    )


async def _unforeseen(request: Request, error: Exception) -> Response:
    LOG.error("an error of MetaInf's own", exc_info=error)
    return JSONResponse(error_of(OWN_ERROR, "api_error", "internal"), 500)
