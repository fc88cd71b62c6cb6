"""Imports that a service was handed: each a row with its state, worked through by whoever claims it.

A row is written after its file is safe on disk, so an import that was acknowledged is carried out whatever
happens to the process: one whose worker has fallen silent is claimed again, and adding records twice adds
them once.
"""

from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field, NonNegativeInt

from metainf.domain import Frozen
from metainf.store.beside import JOBS, prepare
from metainf.store.database import Database

State = Literal["queued", "running", "done", "failed"]
OVER: tuple[State, ...] = ("done", "failed")
SILENT_S = 10.0
"""After so long without a sign of life a running import is taken over."""


class Job(Frozen):
    """One import: what was handed in, and what became of its rows so far.

    `new` and `known` count records that are on disk; `error` says why it failed (records kept before that
    stay). `said` are the facts given beside the file.
    """

    job_id: str
    name: str = Field(max_length=200)
    state: State
    made_at: str
    bytes: NonNegativeInt
    format: str | None = None
    said: dict[str, str] = Field(default_factory=dict)
    read: NonNegativeInt = 0
    new: NonNegativeInt = 0
    known: NonNegativeInt = 0
    rejected: NonNegativeInt = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    error: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will change."""
        return self.state in OVER


class Jobs:
    """The imports of one store. Raises StoreError when the database refuses."""

    def __init__(self, database: Database) -> None:
        self._database = database
        prepare(database)

    def add(self, job: Job, path: str, now_s: float) -> None:
        """Accept an import whose file lies at `path`."""
        row = (
            {"path": path, "owner": None, "beat_s": now_s}
            | _row(job)
            | {"job_id": job.job_id, "made_at": job.made_at}
        )
        with self._database.write() as connection:
            connection.execute(sa.insert(JOBS), row)

    def get(self, job_id: str) -> Job | None:
        """One import, None where there is none of this id."""
        with self._database.read() as connection:
            body = connection.execute(sa.select(JOBS.c.body).where(JOBS.c.job_id == job_id)).scalar()
        return None if body is None else Job.parse(body)

    def latest(self, limit: int) -> list[Job]:
        """The newest imports, newest first."""
        query = sa.select(JOBS.c.body).order_by(JOBS.c.made_at.desc(), JOBS.c.job_id.desc()).limit(limit)
        with self._database.read() as connection:
            return [Job.parse(body) for body in connection.scalars(query)]

    def claim(self, owner: str, now_s: float) -> tuple[Job, str] | None:
        """The oldest import that waits, or whose worker is silent, now this owner's; and its file."""
        silent = sa.and_(JOBS.c.state == "running", JOBS.c.beat_s < now_s - SILENT_S)
        waits = sa.or_(JOBS.c.state == "queued", silent)
        query = sa.select(JOBS).where(waits).order_by(JOBS.c.made_at, JOBS.c.job_id).limit(1)
        with self._database.read() as connection:
            if connection.execute(query).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            job = Job.parse(row.body).model_copy(update={"state": "running"})
            changed = {"owner": owner, "beat_s": now_s} | _row(job)
            connection.execute(sa.update(JOBS).where(JOBS.c.job_id == row.job_id).values(**changed))
        return job, row.path

    def keep(self, job: Job, owner: str, now_s: float) -> bool:
        """Write down how far an import is; False where another owner has taken it over."""
        mine = sa.update(JOBS).where(JOBS.c.job_id == job.job_id, JOBS.c.owner == owner)
        with self._database.write() as connection:
            return connection.execute(mine.values(beat_s=now_s, **_row(job))).rowcount == 1


def _row(job: Job) -> dict[str, Any]:
    return {"state": job.state, "body": job.canonical()}
