"""One trace for a request that passes through several processes: OpenTelemetry's spans, W3C's `traceparent`.

Nothing is imported or recorded until `use` or `send` was called. A process that records nothing still hands
on the trace that it was given. Only `traceparent` is handed on, and only where it has its form.
"""

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from metainf.domain import MissingExtra

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's own variables; where one is set, traces are sent there."""
HEADER = "traceparent"
FORM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
Trace = str
"""A `traceparent`; empty for none."""
CURRENT: ContextVar[Trace] = ContextVar("metainf_trace", default="")
"""The trace of the request that this task works for."""
_recording: dict[str, Any] = {}


def believed(told: object) -> Trace:
    """What another process said, if it has the form of a trace, else none."""
    text = told.decode("ascii", "replace") if isinstance(told, bytes) else told
    return text if isinstance(text, str) and FORM.fullmatch(text) else ""


def provider(service: str, wanted: bool | None = None) -> Any:
    """What records spans under a service's name and sends them where OpenTelemetry's variables say; None
    where they say nothing. Raises MissingExtra where its parts are not installed."""
    if not (any(os.environ.get(name) for name in ENDPOINTS) if wanted is None else wanted):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("sending traces", "traces") from None
    made = TracerProvider(resource=Resource.create({"service.name": service}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def use(made: Any) -> None:
    """Record spans with a provider from now on; None to record none."""
    _recording.clear()
    if made is not None:
        _recording.update(provider=made, tracer=made.get_tracer("metainf"))


def send(service: str) -> None:
    """Record and send where OpenTelemetry's variables say. Raises MissingExtra."""
    use(provider(service))


def flush() -> None:
    """Send what is left, before the process ends."""
    if _recording:
        _recording["provider"].shutdown()
        use(None)


class Mark:
    """A span that has begun; `trace` is what to hand on. Without a recorder it only hands on."""

    def __init__(self, trace: Trace, span: Any = None) -> None:
        self.trace, self._span = trace, span

    def tell(self, event: str) -> None:
        """Something happened."""
        if self._span is not None:
            self._span.add_event(event[:500])

    def end(self, error: str | None = None, **attributes: str | int | float) -> None:
        """It is over. What ended badly says why."""
        span, self._span = self._span, None
        if span is None:
            return
        span.set_attributes(attributes)
        if error is not None:
            from opentelemetry.trace import StatusCode

            span.set_status(StatusCode.ERROR, error[:500])
        span.end()


def begun(name: str, parent: Trace = "", attributes: Mapping[str, str | int | float] | None = None) -> Mark:
    """A span under the trace of whoever asked, or a new trace."""
    if not _recording:
        return Mark(parent)
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    speaks, carrier = TraceContextTextMapPropagator(), dict[str, str]()
    above = speaks.extract({HEADER: parent} if parent else {})
    span = _recording["tracer"].start_span(name, context=above, attributes=dict(attributes or {}))
    speaks.inject(carrier, context=set_span_in_context(span, above))
    return Mark(carrier.get(HEADER, parent), span)
