"""What the service tells of itself: metrics, one line of JSON for each request, a request's id, traces."""

import json
import logging
import os
import re
import secrets
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from metainf.domain import MissingExtra
from metainf.hosts.tracing import provider
from metainf.service.page import POLICY

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("metainf.service")
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
UNSET = object()
SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", POLICY.encode()),
)
STEPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Gauges:
    """The service's metrics in Prometheus' words; of several workers (PROMETHEUS_MULTIPROC_DIR) the sum."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        add: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "metainf_requests", "Requests answered.", ("method", "route", "status"), **add
        )
        self.seconds = Histogram(
            "metainf_request_seconds", "Time to an answer.", ("method", "route"), buckets=STEPS_S, **add
        )
        self.answers = Counter(
            "metainf_answers", "Questions, by whether the answer was known.", ("known",), **add
        )
        self.records = Counter("metainf_records_added", "Records added.", ("way",), **add)
        self.imports = Counter("metainf_imports", "Imports that ended.", ("state",), **add)
        self.waiting = Gauge(
            "metainf_waiting", "Work that waits for a lane.", ("lane",), multiprocess_mode="livesum", **add
        )

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        if os.environ.get(MULTIPROCESS):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self.registry)


class Lines(logging.Formatter):
    """Log records as lines of JSON, in ASCII: whatever is sent, a record is one line to every reader."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        said |= getattr(record, "told", {})
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def log_in_json(level: str = "INFO") -> None:
    """All logs of this process to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True


class Observed:
    """Around the whole app: gives each request an id, counts, times and logs it, and sets safe headers."""

    def __init__(self, app: "ASGIApp", gauges: Gauges) -> None:
        self._app, self._gauges = app, gauges

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, own = time.perf_counter(), 500, _request_id(scope)
        scope.setdefault("state", {})["request_id"] = own.decode()

        async def told(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", own), *SAFE]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _count(self, scope: "Scope", status: int, seconds: float) -> None:
        method, route = _method(scope["method"]), _route(scope)
        self._gauges.requests.labels(method, route, str(status)).inc()
        self._gauges.seconds.labels(method, route).observe(seconds)
        if LOG.isEnabledFor(logging.INFO):
            state: MutableMapping[str, Any] = scope.get("state", {})
            told = {"method": scope["method"], "path": scope["path"], "route": route, "status": status}
            told |= {"duration_ms": round(seconds * 1e3, 2), "request_id": state.get("request_id")}
            told |= {"key": state.get("caller"), **state.get("told", {})}
            LOG.info("request", extra={"told": told})


def _method(name: str) -> str:
    return name if name in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH") else "other"


def _route(scope: "Scope") -> str:
    """The template of the path, so that names and ids make no labels of their own."""
    found = getattr(scope.get("route"), "path", None)
    return str(found) if found else "none"


def _request_id(scope: "Scope") -> bytes:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()


def trace(app: "FastAPI", wanted: bool | None = None) -> bool:
    """Send traces where OpenTelemetry's variables say. MissingExtra where its parts are not installed."""
    made = provider("metainf", wanted)
    if made is None:
        return False
    try:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    except ImportError:
        raise MissingExtra("sending traces", "traces") from None
    FastAPIInstrumentor.instrument_app(app, tracer_provider=made, excluded_urls="health,ready,metrics")
    app.state.tracing = made
    return True
