"""The performance tensor: what was measured where, counted, for pictures of it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from metainf.api import tensors
from metainf.api.tensors import Axes, Places
from metainf.service.access import Reads
from metainf.service.bodies import JSON
from metainf.service.running import Service

router = APIRouter(prefix="/v1", tags=["records"])
MOST = 200
Text = Annotated[str, Field(min_length=1, max_length=300)]
Metric = Literal[
    "output_tokens_per_s", "ttft_s", "tpot_s", "e2e_s", "requests_per_s", "prefill_tokens_per_s",
    "images_per_s", "steps_per_s", "energy_j_per_token",
]  # fmt: skip


class TensorQuery(BaseModel):
    """Which places, and what of them. Names as the records hold them; `hardware` is the id of one piece of
    hardware, as `/v1/tensor/axes` lists them. Rows of workloads are those of one `model`."""

    model_config = ConfigDict(extra="forbid")

    metric: Metric = "output_tokens_per_s"
    rows: tensors.Rows = "model"
    columns: tensors.Columns = "method"
    model: Text | None = None
    device: Text | None = None
    hardware: Text | None = None
    engine: Text | None = None
    source: Text | None = None
    failed: bool = False
    most: Annotated[int, Field(ge=1, le=MOST)] = 150


@router.get("/tensor", response_model=Places)
async def places(request: Request, caller: Reads, asked: Annotated[TensorQuery, Query()]) -> Response:
    """Rows by columns, the fullest first, each place with its records, failures and one metric."""
    service: Service = request.app.state.service
    wanted = tensors.Wanted(**asked.model_dump())
    state = await service.reading.run(service.tensor.state)
    key = f"{state} {wanted}".encode()
    found = await service.pictures.get(
        key, lambda: tensors.places(service.tensor, wanted).model_dump_json().encode()
    )
    return Response(found, media_type=JSON)


@router.get("/tensor/axes", response_model=Axes)
async def axes(request: Request, caller: Reads) -> Response:
    """What the store holds along each axis: models, hardware, engines, sources, with their records."""
    service: Service = request.app.state.service
    found = await service.reading.run(lambda: tensors.axes(service.tensor).model_dump_json().encode())
    return Response(found, media_type=JSON)
