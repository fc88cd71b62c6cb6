"""Records: looked up, read page by page, and added."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from metainf.api.answers import Kept, Page, Source
from metainf.api.problems import refusal
from metainf.domain import Record
from metainf.service.access import Reads, Writes
from metainf.service.bodies import JSON, described, read_records
from metainf.service.running import Service

router = APIRouter(prefix="/v1", tags=["records"])
MOST_AT_ONCE = 1000
LARGEST_CURSOR = 2**62
EXAMPLE: dict[str, Any] = {
    "setting": {
        "model": {"name": "meta-llama/Llama-3.1-8B-Instruct"},
        "workload": {"input_tokens": {"mean": 512}, "output_tokens": {"mean": 128}, "concurrency": 8},
        "hardware": {"device": {"name": "l4"}, "count": 1},
    },
    "method": {"engine": "vllm", "techniques": [{"kind": "batching", "mode": "continuous"}]},
    "outcome": {"kind": "measured", "metrics": {"ttft_s": 0.21, "tpot_s": 0.034}},
    "provenance": {"source": "mine", "date": "2026-11-02"},
}
Text = Annotated[str, Field(max_length=200)]


class RecordQuery(BaseModel):
    """Which records: names as the records hold them (`workload`, `hardware` and `method` are ids, as
    `/v1/tensor` lists them), dates as ISO (2025, 2025-03 or 2025-03-15), inclusive.

    `after` is the `next` of the page before.
    """

    model_config = ConfigDict(extra="forbid")

    source: Text | None = None
    model: Text | None = None
    engine: Text | None = None
    device: Text | None = None
    status: Literal["measured", "failed"] | None = None
    since: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")] | None = None
    until: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")] | None = None
    campaign: Text | None = None
    workload: Text | None = None
    hardware: Text | None = None
    method: Text | None = None
    after: Annotated[int, Field(ge=0, le=LARGEST_CURSOR)] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 100


@router.get("/records", response_model=Page)
async def query(request: Request, caller: Reads, asked: Annotated[RecordQuery, Query()]) -> Response:
    """Matching records, oldest addition first, page by page."""
    from metainf.store import Filter

    service: Service = request.app.state.service
    where = Filter(**asked.model_dump(exclude={"after", "limit"}))

    def work() -> bytes:
        found = service.read_from.page(asked.after, where, asked.limit)
        more = found[-1][0] if len(found) == asked.limit else None
        page = Page.model_construct(records=tuple(record for _, record in found), next=more)
        return page.model_dump_json(exclude_none=True).encode()

    return Response(await service.reading.run(work), media_type=JSON)


@router.get("/records/sources", response_model=list[Source], response_model_exclude_none=True)
async def sources(request: Request, caller: Reads) -> list[Source]:
    """What the store holds, by source."""
    service: Service = request.app.state.service
    found = await service.reading.run(service.read_from.sources)
    return [Source(**{name: getattr(each, name) for name in Source.model_fields}) for each in found]


@router.get("/records/{record_id}", response_model=Record)
async def one(request: Request, caller: Reads, record_id: str) -> Response:
    """The record of a content id."""
    service: Service = request.app.state.service
    if "\x00" in record_id:
        raise absent(record_id)
    found = await service.reading.run(lambda: service.read_from.get(record_id))
    if found is None:
        raise absent(record_id)
    return Response(found.model_dump_json(exclude_none=True), media_type=JSON)


def absent(record_id: str) -> Exception:
    """The answer for an id that no record has."""
    return refusal(
        "not-found", 404, "No such record", f"expected the content id of a record, found {record_id!r:.80}"
    )


@router.post(
    "/records",
    status_code=201,
    response_model=Kept,
    openapi_extra=described(
        {
            "type": "array",
            "minItems": 1,
            "items": {"$ref": "#/components/schemas/Record"},
        },
        {"one": [EXAMPLE]},
    ),
)
async def add(request: Request, caller: Writes) -> Kept:
    """Add up to 10,000 records; known ones are left as they are. The answer comes when all are on disk."""
    service: Service = request.app.state.service
    records = await read_records(request)

    def work() -> Kept:
        added = service.write_to.add(records, batch=len(records))
        return Kept(new=added.new, known=added.known, ids=tuple(record.id for record in records))

    kept = await service.writing.run(work)
    service.gauges.records.labels("append").inc(kept.new)
    return kept
