"""Bulk imports: a file is handed in, worked through in the background, and its progress told as it comes."""

import asyncio
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathPart
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from metainf.api import imports
from metainf.api.answers import Job
from metainf.api.problems import refusal
from metainf.domain import StoreError
from metainf.service.access import Reads, Writes
from metainf.service.bodies import described, pieces, require_type
from metainf.service.running import Service

router = APIRouter(prefix="/v1", tags=["imports"])
OCTETS = "application/octet-stream"
LOOK_EVERY_S = 0.25
MOST_LISTED = 100
SAFE = re.compile(r"[^A-Za-z0-9._-]+")
Fact = Annotated[str, Field(min_length=1, max_length=200)]
JobId = Annotated[str, PathPart(pattern=r"^[0-9a-f]{16}$")]


class Upload(BaseModel):
    """What is said of the file: its name (the ending counts), its format where it should not be found out
    (`records` for what `metainf records export` wrote), and facts that it lacks."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)] = "upload.json"
    format: Fact | None = None
    model: Fact | None = None
    hardware: Fact | None = None
    engine: Fact | None = None


@router.post(
    "/imports",
    status_code=202,
    response_model=Job,
    response_model_exclude_none=True,
    openapi_extra=described({"type": "string", "format": "binary"}, {}, OCTETS),
)
async def hand_in(request: Request, caller: Writes, asked: Annotated[Upload, Query()]) -> Job:
    """Hand in a result file. Once this answers, the import will be carried out, whatever happens."""
    service: Service = request.app.state.service
    require_type(request, OCTETS)
    said = {name: value for name in imports.FACTS if (value := getattr(asked, name)) is not None}
    name = safe_name(asked.name)
    job = await service.writing.run(lambda: imports.new_job(name, asked.format, said, 0))
    path = service.folder(job.job_id) / name
    try:
        size = await _receive(request, service, path)
        job = job.model_copy(update={"bytes": size})
        await service.writing.run(lambda: service.jobs.add(job, str(path), time.time()))
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    service.wake.set()
    return job


async def _receive(request: Request, service: Service, path: Path) -> int:
    """The body in a file, safe on disk; its size."""
    settings, size = service.settings, 0
    try:
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            async for piece in pieces(request, settings.most_upload, settings.body_timeout_s):
                file.write(piece)
                size += len(piece)
            file.flush()
            await asyncio.to_thread(_settle, file.fileno(), path.parent)
    except OSError as error:
        told = f"could not keep the upload in {service.spool}: {error.strerror}"
        raise StoreError(f"{told} (make room or make the folder writable, and hand it in again)") from error
    return size


def _settle(handle: int, folder: Path) -> None:
    os.fsync(handle)
    for each in (folder, folder.parent):
        opened = os.open(each, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def safe_name(text: str) -> str:
    """A file name without folders and odd characters; its ending stays."""
    found = SAFE.sub("_", text.replace("\\", "/").rsplit("/", 1)[-1]).lstrip(".")
    return found or f"upload-{secrets.token_hex(4)}"


@router.get("/imports", response_model=list[Job], response_model_exclude_none=True)
async def latest(request: Request, caller: Reads) -> list[Job]:
    """The newest imports, newest first."""
    service: Service = request.app.state.service
    return await service.knowing.run(lambda: service.jobs.latest(MOST_LISTED))


@router.get("/imports/{job_id}", response_model=Job, response_model_exclude_none=True)
async def one(request: Request, caller: Reads, job_id: JobId) -> Job:
    """How far an import is."""
    return await _job(request, job_id)


async def followed(request: Request, caller: Reads, job_id: JobId) -> Job:
    """The import to follow, looked up before the first word is sent."""
    return await _job(request, job_id)


async def _job(request: Request, job_id: str) -> Job:
    service: Service = request.app.state.service
    found = await service.knowing.run(lambda: service.jobs.get(job_id))
    if found is None:
        raise refusal("not-found", 404, "No such import", f"expected the id of an import, found {job_id}")
    return found


@router.get("/imports/{job_id}/events", response_class=EventSourceResponse)
async def follow(request: Request, job: Annotated[Job, Depends(followed)]) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events whose data is the import: `progress` as it moves, then `done` or `failed`."""
    told: Job | None = None
    while True:
        if job != told:
            event = job.state if job.over else "progress"
            yield ServerSentEvent(event=event, raw_data=job.model_dump_json(exclude_none=True))
            told = job
        if job.over or request.app.state.service.stopping:
            return
        await asyncio.sleep(LOOK_EVERY_S)
        job = await _job(request, job.job_id)
