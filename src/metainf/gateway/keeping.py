"""Outcomes become records in the store: gathered while requests run, written in batches off their path."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from metainf.domain import (
    Device,
    Failed,
    Hardware,
    Lengths,
    Measured,
    MetaInfError,
    Method,
    Metrics,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.gateway.words import Endpoint
from metainf.service.lanes import Lane
from metainf.store import Store

LOG = logging.getLogger("metainf.gateway")
SOURCE = "metainf-gateway"
EVERY_S = 1.0
BATCH = 500
MOST_WAITING = 200_000
TRIES_AT_THE_END = 20
_REASONS = {"stall": "timed_out", "deadline": "timed_out", "busy": "unknown"}
_UNKNOWN = Hardware(device=Device(name="unknown")), Method(engine="unknown")


@dataclass(frozen=True)
class Outcome:
    """One attempt that is over. Tokens, seconds and US dollars; `why` and `detail` of one that failed."""

    endpoint: Endpoint
    date: str
    in_flight: int
    input_tokens: float
    output_tokens: float | None
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    usd: float | None = None
    why: str | None = None
    detail: str | None = None


def record_of(outcome: Outcome, campaign: str, number: int) -> Record:
    """The record of an outcome: a workload of one request beside so many others."""
    hardware, method = outcome.endpoint.hardware, outcome.endpoint.method
    work = Workload(
        name="gateway",
        input_tokens=Lengths(mean=outcome.input_tokens),
        output_tokens=None if outcome.output_tokens is None else Lengths(mean=outcome.output_tokens),
        concurrency=float(outcome.in_flight),
        num_requests=1,
    )
    result: Measured | Failed
    if outcome.why is None:
        metrics = Metrics(
            ttft_s=outcome.ttft_s or None,
            tpot_s=outcome.tpot_s or None,
            e2e_s=outcome.e2e_s or None,
            usd_per_request=outcome.usd,
        )
        result = Measured(metrics=metrics)
    else:
        reason = _REASONS.get(outcome.why, "crashed")
        told = f"{outcome.why}: {outcome.detail or ''}".strip()[:1000]
        result = Failed.of({"reason": reason, "detail": told})
    return Record(
        setting=Setting(model=outcome.endpoint.model, workload=work, hardware=hardware or _UNKNOWN[0]),
        method=method or _UNKNOWN[1],
        outcome=result,
        provenance=Provenance(
            source=SOURCE,
            campaign=campaign,
            date=outcome.date,
            tool="metainf gateway",
            location=outcome.endpoint.name,
            trial=number,
        ),
    )


class Keeper:
    """Takes outcomes at once and writes them later. `campaign` tells this run of the gateway from others.

    Where the store refuses, outcomes wait; beyond MOST_WAITING the oldest are dropped and `lost` hears of it.
    """

    def __init__(self, store: Store, lane: Lane, campaign: str, lost: Callable[[int], None]) -> None:
        self._store, self._lane, self._lost = store, lane, lost
        self.campaign = campaign
        self.waiting: deque[tuple[int, Outcome]] = deque()
        self._numbers = itertools.count()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(self, outcome: Outcome) -> None:
        """Keep an outcome. Returns at once."""
        if len(self.waiting) >= MOST_WAITING:
            self.waiting.popleft()
            self._lost(1)
        self.waiting.append((next(self._numbers), outcome))

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_on())

    async def stop(self) -> None:
        """Write what is left; returns when it is on disk, or the store refused TRIES_AT_THE_END times."""
        self._ending.set()
        if self._task is not None:
            await self._task
        for _ in range(TRIES_AT_THE_END):
            if await self._write():
                return
            await asyncio.sleep(EVERY_S / 4)
        self._lost(len(self.waiting))
        LOG.error("outcomes are lost", extra={"told": {"outcomes": len(self.waiting)}})

    async def _write_on(self) -> None:
        while not self._ending.is_set():
            try:
                await asyncio.wait_for(self._ending.wait(), EVERY_S)
            except TimeoutError:
                await self._write()

    async def _write(self) -> bool:
        """Write all that waits; whether the store took it. What it refuses goes on waiting."""
        while self.waiting:
            batch = [self.waiting.popleft() for _ in range(min(BATCH, len(self.waiting)))]
            try:
                await self._lane.run(partial(self._add, batch))
            except MetaInfError as error:
                self.waiting.extendleft(reversed(batch))
                LOG.warning("outcomes wait for the store", extra={"told": {"why": str(error)}})
                return False
        return True

    def _add(self, batch: list[tuple[int, Outcome]]) -> None:
        records = []
        for number, outcome in batch:
            try:
                records.append(record_of(outcome, self.campaign, number))
            except (ValueError, MetaInfError):  # no record may hold it; the others must not wait for it
                LOG.exception("an outcome makes no record")
                self._lost(1)
        self._store.add(records)
