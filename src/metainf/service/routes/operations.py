"""Health, readiness and metrics."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from metainf import __version__
from metainf.api.answers import State
from metainf.api.problems import refusal
from metainf.domain import MetaInfError
from metainf.service.access import Reads
from metainf.service.running import Service

router = APIRouter(tags=["operations"])
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/health", response_model=State)
async def health() -> State:
    """Whether the process answers at all."""
    return State(status="ok", version=__version__)


@router.get("/ready", response_model=State)
async def ready(request: Request) -> State:
    """Whether the store answers and the predictor is loaded; 503 where not."""
    service: Service = request.app.state.service
    if service.stopping:
        raise refusal("ending", 503, "Not ready", "the service ends")
    try:
        await service.knowing.run(lambda: service.jobs.latest(1))
    except MetaInfError as error:
        raise refusal("not-ready", 503, "Not ready", str(error)) from None
    return State(status="ready", version=__version__)


@router.get("/metrics", response_class=Response,
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})  # fmt: skip
async def metrics(request: Request, caller: Reads) -> Response:
    """Counts and times in Prometheus' words."""
    service: Service = request.app.state.service
    for lane in service.lanes:
        service.gauges.waiting.labels(lane.name).set(lane.waiting)
    return Response(service.gauges.text(), media_type=PROMETHEUS)
