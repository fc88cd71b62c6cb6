"""What a run is and what it gives, whatever is asked of the engine."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from metainf import __version__
from metainf.domain import Conditions, Failed, Measured, Method, Provenance, Record, Setting, Workload
from metainf.measure.process import DEATH_PATIENCE_S
from metainf.measure.serving import Patience, Served, Subject
from metainf.measure.words import Limits, Work

T = TypeVar("T")

SOURCE = "metainf"
DEATH_POLL_S = 0.25


@dataclass(frozen=True)
class Run:
    """One run to make. `launched` is the method in the words of its engine, which its evidence is held
    against; `command` the engine's command line as the record keeps it."""

    subject: Subject
    method: Method
    launched: Method
    traffic: Work
    trial: int = 0
    campaign: str | None = None
    command: str | None = None

    @property
    def key(self) -> str:
        """Names the run in the store: the same model, hardware, method, requests and trial, the same key."""
        subject, traffic = self.subject, repr(self.traffic)
        parts = (subject.model.id, subject.hardware.id, self.method.id, traffic, str(self.trial))
        return f"run:{hashlib.blake2b('|'.join(parts).encode(), digest_size=12).hexdigest()}"


@dataclass(frozen=True)
class Answers:
    """Greedy answers to the reference prompts: of the unaccelerated method, to which those of a run are
    compared (None: no quality figure), and the method's own from an earlier run (None: they are asked)."""

    plain: Sequence[str] | None = None
    own: Sequence[str] | None = None


@dataclass(frozen=True)
class Rules:
    """How runs are made and judged. `now` gives the time of day."""

    patience: Patience = field(default_factory=Patience)
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True)
class Made:
    """A record, the greedy answers to the reference prompts where they were asked, and the techniques of
    whose working the engine gave no sign."""

    record: Record
    answers: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


class TooSlow(Exception):
    """The timed requests did not end in time."""


class Unanswered(Exception):
    """Requests failed though the engine lived on."""

    def __init__(self, errors: Mapping[str, int], asked: int) -> None:
        self.errors, self.asked = errors, asked
        super().__init__(next(iter(errors)))


def record_of(
    run: Run, method: Method, work: Workload, outcome: Measured | Failed, conditions: Conditions, rules: Rules
) -> Record:
    """The record of a run, whatever came of it."""
    provenance = Provenance(
        source=SOURCE,
        campaign=run.campaign,
        location=run.key,
        date=rules.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        tool=f"metainf {__version__}",
        trial=run.trial,
        command=None if run.command is None else run.command[:4000],
        conditions=conditions,
    )
    setting = Setting(model=run.subject.model, workload=work, hardware=run.subject.hardware)
    return Record(setting=setting, method=method, outcome=outcome, provenance=provenance)


async def watched(work: Coroutine[Any, Any, T], served: Served, within_s: float) -> T:
    """The result of the work, unless the engine ends or the time is over before."""
    task = asyncio.ensure_future(work)
    until = time.monotonic() + within_s
    try:
        while not task.done():
            await asyncio.wait([task], timeout=DEATH_POLL_S)
            if task.done():
                break
            if served.process is not None:
                served.process.check()
            if time.monotonic() >= until:
                raise TooSlow(f"the requests were not answered within {within_s:.3g} s")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def wait_for_death(served: Served) -> None:
    """Raise EngineEnded where requests failed because the engine is ending."""
    if served.process is not None:
        served.process.check(DEATH_PATIENCE_S)
