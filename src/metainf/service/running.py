"""What a running service holds: its lanes, each with its own connection to the store, and the imports."""

import asyncio
import logging
import secrets
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from metainf import api
from metainf.api import imports, tensors
from metainf.api.choosing import load_predictor
from metainf.domain import BadInput, MetaInfError, MissingExtra
from metainf.service.access import Doors, Pace
from metainf.service.lanes import Answers, Lane
from metainf.service.observing import Gauges
from metainf.service.settings import Settings

if TYPE_CHECKING:
    from metainf.api.watching import Watch
    from metainf.store.jobs import Job

LOG = logging.getLogger("metainf.service")
TOLD_EVERY_S = 0.5
"""Between two words of an import about how far it is; each is also a sign of life."""
IDLE_S = 1.0
"""Between two looks for an import that another process left."""
COUNT_EVERY_S = 0.5
"""Between two looks for records that are not counted yet."""
OLD_S = 3600.0
"""Uploads that no import needs are swept away after this."""


class Stopped(Exception):
    """The service ends or another worker has taken the import over: leave it as it is."""


class Service:
    """Everything behind the routes. `start` before the first request, `stop` after the last."""

    def __init__(self, settings: Settings, gauges: Gauges) -> None:
        self.settings, self.gauges = settings, gauges
        self.owner = secrets.token_hex(8)
        self.answering = Lane("answers", settings.most_waiting)
        self.reading = Lane("records", settings.most_waiting)
        self.writing = Lane("additions", settings.most_waiting)
        self.knowing = Lane("keys", 4 * settings.most_waiting)
        self.importing = Lane("imports", 4)
        self.counting = Lane("counts", 4)
        self.read_from = api.store(settings.store)
        self.write_to, self.import_into = api.store(settings.store), api.store(settings.store)
        self.count_in = api.store(settings.store)
        self.tensor, self.counts = tensors.tensor(self.read_from), tensors.counting(self.count_in)
        self.pictures = Answers(self.reading)
        self.keyring, self.jobs = imports.keyring(self.write_to), imports.jobs(self.write_to)
        self.doors = Doors(self.keyring, self.knowing, Pace(settings.rate), settings.public)
        self.answers = Answers(
            self.answering, lambda known: self.gauges.answers.labels(str(known).lower()).inc()
        )
        self.predictor = None if settings.predictor is None else Path(settings.predictor)
        self.spool = _spool(settings)
        self.swarm = watched(settings)
        self.wake = asyncio.Event()
        self.stopping = False
        self._loops: list[asyncio.Task[None]] = []

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """All lanes."""
        return self.answering, self.reading, self.writing, self.knowing, self.importing, self.counting

    async def start(self) -> None:
        """Load the predictor, and go on with imports that were left."""
        self.spool.mkdir(parents=True, exist_ok=True)
        await self.answering.run(lambda: load_predictor(self.predictor))
        await self.importing.run(self._sweep)
        self._loops = [asyncio.create_task(each()) for each in (self._work_through, self._count)]

    async def stop(self) -> None:
        """End. What was accepted and is not done yet is done by the next process."""
        self.stopping = True
        if self._loops:
            self.wake.set()
            await asyncio.wait(self._loops, timeout=10)
        if self.swarm is not None:
            await self.swarm.close()
        for lane in self.lanes:
            lane.close()
        for store in (self.read_from, self.write_to, self.import_into, self.count_in):
            store.close()

    def folder(self, job_id: str) -> Path:
        """Where the upload of one import lies."""
        return self.spool / job_id

    async def _work_through(self) -> None:
        while not self.stopping:
            try:
                found = await self.importing.run(lambda: self.jobs.claim(self.owner, time.time()))
                if found is not None:
                    job, path = found
                    await self.importing.run(partial(self._import, job, Path(path)))
                    continue
            except (Stopped, MetaInfError) as error:
                LOG.warning("an import is left for later", extra={"told": {"why": str(error)}})
            except Exception:
                LOG.exception("an import could not be worked on")
            self.wake.clear()
            try:
                await asyncio.wait_for(self.wake.wait(), IDLE_S)
            except TimeoutError:
                continue

    async def _count(self) -> None:
        """Keep the counted records of the tensor up to date."""
        while not self.stopping:
            try:
                while not self.stopping and await self.counting.run(lambda: self.counts.advance() > 0):
                    await asyncio.sleep(0)
            except MetaInfError as error:
                LOG.warning("records are left uncounted", extra={"told": {"why": str(error)}})
            except Exception:
                LOG.exception("records could not be counted")
            await asyncio.sleep(COUNT_EVERY_S)

    def _import(self, job: "Job", path: Path) -> None:
        last_s = time.monotonic()

        def tell(now: "Job") -> None:
            nonlocal last_s
            if self.stopping:
                raise Stopped(f"import {job.job_id}: the service ends")
            if time.monotonic() - last_s >= TOLD_EVERY_S:
                last_s = time.monotonic()
                self._keep(now)

        if path.is_file():
            done = imports.carry_out(job, path, self.import_into, tell)
        else:
            done = job.model_copy(update={"state": "failed", "error": f"the upload of {job.name} is gone"})
        self._keep(done)
        self.gauges.imports.labels(done.state).inc()
        self.gauges.records.labels("import").inc(done.new)
        shutil.rmtree(path.parent, ignore_errors=True)
        told = {"import": job.job_id, "state": done.state, "new": done.new, "rejected": done.rejected}
        LOG.info("import over", extra={"told": told})

    def _keep(self, job: "Job") -> None:
        if not self.jobs.keep(job, self.owner, time.time()):
            raise Stopped(f"import {job.job_id} was taken over by another worker")

    def _sweep(self) -> None:
        """Remove uploads that were never acknowledged, or whose import is over."""
        for folder in self.spool.iterdir():
            job = self.jobs.get(folder.name)
            old = job is None and time.time() - folder.stat().st_mtime > OLD_S
            if old or (job is not None and job.over):
                shutil.rmtree(folder, ignore_errors=True)


def watched(settings: Settings) -> "Watch | None":
    """The swarm to watch, if any; nothing is connected yet. Raises BadInput and MissingExtra."""
    if settings.swarm is None:
        if settings.reputation is not None or settings.queue is not None:
            raise BadInput("expected --swarm beside --reputation or --queue, found none")
        return None
    try:
        from metainf.api.watching import watch
    except ImportError as error:
        if (error.name or "").startswith("metainf"):
            raise
        raise MissingExtra("watching a swarm", "swarm") from None
    return watch(settings.swarm, settings.reputation, settings.queue)


def _spool(settings: Settings) -> Path:
    if settings.spool is not None:
        return Path(settings.spool).absolute()
    if settings.store is not None and "://" not in settings.store:
        return Path(f"{settings.store}.uploads").absolute()
    from platformdirs import user_data_path

    return user_data_path("metainf") / "uploads"
