"""The swarm that the service was told to watch."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict

from metainf.api.problems import refusal
from metainf.service.access import Reads
from metainf.service.running import Service
from metainf.swarm.plan.overview import Overview, OverviewAsked
from metainf.swarm.words import Demand

router = APIRouter(prefix="/v1", tags=["swarm"])


class SwarmQuery(OverviewAsked):
    """The request for which routes are shown: tokens of its prompt and tokens that it wants."""

    model_config = ConfigDict(strict=False)


@router.get("/swarm", response_model=Overview, response_model_exclude_none=True)
async def overview(request: Request, caller: Reads, asked: Annotated[SwarmQuery, Query()]) -> Overview:
    """Nodes, coverage of blocks, expected routes, reputations and queues of the swarm that is watched, one
    second old at most. 404 where the service watches none, 503 where the directory does not answer."""
    service: Service = request.app.state.service
    if service.swarm is None:
        detail = "expected a swarm to watch, found none: start metainf serve with --swarm ADDRESS"
        raise refusal("no-swarm", 404, "No swarm", detail)
    from metainf.swarm.net.directory import DirectoryLost

    try:
        return await service.swarm.overview(Demand(**asked.model_dump()))
    except DirectoryLost as error:
        raise refusal("swarm-lost", 503, "The swarm's directory does not answer", str(error)) from None
