"""How far to trust the answers: what the shipped predictor was judged to do, and what it leans on."""

from fastapi import APIRouter, Request

from metainf import api
from metainf.api.answers import Evaluation, Share
from metainf.api.evidence import evidence
from metainf.api.over_time import over_time
from metainf.api.results import results
from metainf.service.access import Reads
from metainf.service.running import Service

router = APIRouter(prefix="/v1", tags=["evidence"])


@router.get("/evaluation", response_model=Evaluation)
async def evaluation(request: Request, caller: Reads) -> Evaluation:
    """What the shipped results say: regret view by view, error and coverage of numbers, ablations, and regret
    over time."""
    from metainf.api.choosing import load_predictor

    service: Service = request.app.state.service
    trained = await service.answering.run(lambda: load_predictor(service.predictor))
    shown, series = evidence(), over_time()
    return Evaluation(
        manifest=trained.manifest,
        judged=results(),
        accuracy=shown.accuracy,
        ablations=shown.ablations,
        over_time=series.moments,
        by_runs=series.by_runs,
    )


@router.get("/importance", response_model=list[Share])
async def importance(request: Request, caller: Reads) -> list[Share]:
    """What the predictor leans on: causes of the time, and related runs (shares)."""
    service: Service = request.app.state.service
    rows = await service.answering.run(lambda: api.importance(service.predictor))
    return [Share(target=target, cause=cause, share=share) for target, cause, share in rows]
