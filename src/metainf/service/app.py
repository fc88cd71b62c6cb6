"""The application: routes, errors as problem documents, the OpenAPI document, and what is around them."""

import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from metainf import __version__
from metainf.api.answers import KeyAsked
from metainf.api.asking import Asked, PredictAsked, SizeAsked
from metainf.api.problems import Problem, problem_of, refusal
from metainf.domain import MetaInfError, Record
from metainf.service.access import Slower
from metainf.service.observing import Gauges, Observed, trace
from metainf.service.page import add_page
from metainf.service.routes import (
    catalogue,
    choosing,
    evidence,
    importing,
    keys,
    operations,
    records,
    swarm,
    tensor,
)  # fmt: skip
from metainf.service.running import Service
from metainf.service.settings import LOOPBACK, VARIABLE, Settings

LOG = logging.getLogger("metainf.service")
PROBLEM = "application/problem+json"
DOCUMENT = "/v1/openapi.json"
SWITCH_S = 0.0002
"""Python's threads take turns this often, so that requests do not wait long for a thread that predicts."""
ABOUT = """\
Which inference acceleration to turn on, on which machine, and what it will cost. Numbers are medians with
the bounds of 90 % intervals; seconds, GiB and US dollars. Errors are problem documents (RFC 9457)."""
PARTS = (choosing, records, tensor, importing, catalogue, evidence, swarm, keys, operations)
BODIES = (Asked, SizeAsked, PredictAsked, KeyAsked, Record, Problem)
"""Words that no route names in its signature, for they are read from the body by themselves."""


def create_app(settings: Settings) -> FastAPI:
    """The application over a store. Opens nothing before it starts."""

    gauges = Gauges()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(settings, gauges)
        await service.start()
        yield
        await service.stop()
        if (tracing := getattr(app.state, "tracing", None)) is not None:
            tracing.shutdown()

    app = FastAPI(
        title="MetaInf", version=__version__, description=ABOUT, lifespan=life, openapi_url=DOCUMENT,
        docs_url=None, redoc_url=None, separate_input_output_schemas=False, redirect_slashes=False,
    )  # fmt: skip
    for part in PARTS:
        app.include_router(part.router)
    add_page(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    app.add_exception_handler(MetaInfError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unforeseen)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id"],
        )  # fmt: skip
    if not settings.public:
        # A page in a browser here must not reach the service under a name of its own.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"], www_redirect=False)
    trace(app)
    app.add_middleware(Observed, gauges=gauges)
    return app


def from_environment() -> FastAPI:
    """The application of a worker process."""
    from metainf.service.observing import log_in_json

    log_in_json(os.environ.get("METAINF_LOG", "INFO"))
    sys.setswitchinterval(SWITCH_S)
    return create_app(Settings.parse(os.environ[VARIABLE]))


def _told(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    text = problem.model_dump_json()
    return Response(text, status_code=problem.status, media_type=PROBLEM, headers=headers)


async def _own(request: Request, error: Exception) -> Response:
    assert isinstance(error, MetaInfError)
    problem = problem_of(error)
    headers = {}
    if problem.kind == "unknown-name" and request.method in ("GET", "DELETE") and request.path_params:
        problem = problem.model_copy(update={"status": 404})
    if isinstance(error, Slower):
        headers["Retry-After"] = str(error.wait_s)
    elif problem.status == 503:
        headers["Retry-After"] = "1"
        LOG.warning("refused", extra={"told": {"why": problem.detail}})
    elif problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _told(problem, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:8]]
    return _told(refusal("bad-input", 422, "A question that cannot be understood", "; ".join(lines)).problem)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "refused")
    detail = f"{error.detail}: {DOCUMENT} lists what there is"
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request.scope["path"])) or headers.get("Allow", "")
    return _told(refusal(kind, error.status_code, str(error.detail), detail).problem, headers)


def _methods(path: str) -> list[str]:
    """What may be done with a path, by all its routes together."""
    routes = [each for part in PARTS for each in part.router.routes if isinstance(each, APIRoute)]
    return sorted({name for each in routes if each.path_regex.match(path) for name in each.methods or ()})


async def _gone(request: Request, error: Exception) -> Response:
    """Whoever sent the body went away in the middle of it."""
    return Response(status_code=400)


async def _unforeseen(request: Request, error: Exception) -> Response:
    LOG.error("an error of MetaInf's own", exc_info=error)
    detail = "an error of MetaInf's own; its log tells more"
    return _told(refusal("internal", 500, "Internal error", detail).problem)


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the words that bodies are made of among its components."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _, found = models_json_schema(
            [(each, "validation") for each in BODIES], ref_template="#/components/schemas/{model}"
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(found["$defs"])
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in made["paths"].values():
            for operation in path.values():
                problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {"description": "A problem", "content": problem}
        app.openapi_schema = made
    return app.openapi_schema
