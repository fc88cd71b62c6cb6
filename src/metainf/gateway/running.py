"""What a running gateway holds: the board, connections, probes, forecasts being worked out, and the store."""

import asyncio
import logging
import os
import random
import secrets
import time
from datetime import UTC, datetime
from functools import partial

from metainf import api
from metainf.api import imports
from metainf.gateway.asking import session
from metainf.gateway.board import Board
from metainf.gateway.forecasting import work_out
from metainf.gateway.forecasts import Forecasts, first_kinds
from metainf.gateway.keeping import Keeper
from metainf.gateway.observing import RouteGauges
from metainf.gateway.probing import answers, watch
from metainf.gateway.routing import Manners, Router, authorized
from metainf.gateway.settings import GatewaySettings
from metainf.gateway.words import Endpoint, Kind
from metainf.service.access import Doors, Pace
from metainf.service.lanes import Lane

LOG = logging.getLogger("metainf.gateway")
LOOK_S = 0.1
"""Between two looks for kinds of questions that are not worked out yet."""


class Gateway:
    """Everything behind the routes. `start` before the first request, `stop` after the last."""

    def __init__(
        self, endpoints: tuple[Endpoint, ...], settings: GatewaySettings, gauges: RouteGauges
    ) -> None:
        self.endpoints, self.settings, self.gauges = endpoints, settings, gauges
        self.forecasts = Forecasts(endpoints)
        self.board = Board(endpoints, self.forecasts, random.random, settings.explore)
        self.headers = {
            each.name: authorized(each, os.environ.get(each.api_key_env) if each.api_key_env else None)
            for each in endpoints
        }
        self.ready = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the store and connections, ask how the endpoints are, begin to forecast."""
        settings = self.settings
        self.knowing = Lane("keys", 4 * settings.most_waiting)
        self.writing = Lane("outcomes", 4)
        self.forecasting = Lane("forecasts", 4)
        self.read_from, self.write_to = api.store(settings.store), api.store(settings.store)
        keyring = imports.keyring(self.read_from)
        self.doors = Doors(keyring, self.knowing, Pace(settings.rate), settings.public)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.keeper = Keeper(
            self.write_to, self.writing, f"gateway {stamp} {secrets.token_hex(4)}", self.gauges.lost.inc
        )
        self.connections = session()
        manners = Manners(settings.attempts, settings.stall_s, settings.deadline_s)
        self.router = Router(
            self.board, manners, self.connections, self.headers, self.gauges, self.keeper.note
        )
        self.keeper.start()
        await self._first_probes()
        self._tasks = [asyncio.create_task(self._watch(each)) for each in self.endpoints]
        self._tasks.append(asyncio.create_task(self._forecast()))

    async def stop(self) -> None:
        """End. Returns when every outcome is in the store."""
        self.ready = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.keeper.stop()
        await self.connections.close()
        for lane in (self.knowing, self.writing, self.forecasting):
            lane.close()
        for store in (self.read_from, self.write_to):
            store.close()

    def count(self) -> None:
        """Set the gauges that say how things stand."""
        now_s = time.monotonic()
        for name, standing in self.board.standings.items():
            self.gauges.in_flight.labels(name).set(standing.in_flight)
            self.gauges.open.labels(name).set(standing.up and standing.closed_until_s <= now_s)
        self.gauges.unwritten.set(len(self.keeper.waiting))

    async def _first_probes(self) -> None:
        found = await asyncio.gather(*(self._probe(each) for each in self.endpoints))
        for each, up in zip(self.endpoints, found, strict=True):
            self.board.probed(each.name, up, time.monotonic())
            if not up:
                LOG.warning("an endpoint does not answer", extra={"told": {"endpoint": each.name}})

    async def _probe(self, endpoint: Endpoint) -> bool:
        return await answers(self.connections, endpoint, self.headers[endpoint.name])

    async def _watch(self, endpoint: Endpoint) -> None:
        def tell(up: bool) -> None:
            if self.board.standings[endpoint.name].up != up:
                told = {"endpoint": endpoint.name, "up": up}
                LOG.warning("an endpoint went down or came back", extra={"told": told})
            self.board.probed(endpoint.name, up, time.monotonic())

        up = self.board.standings[endpoint.name].up
        await watch(partial(self._probe, endpoint), tell, self.settings.probe_every_s, up)

    async def _forecast(self) -> None:
        """Work out the first kinds of questions, then whatever was asked and is not known."""
        for kind in first_kinds():
            await self._work_out(kind)
        self.ready = True
        while True:
            await asyncio.sleep(LOOK_S)
            for kind in sorted(self.forecasts.missing):
                await self._work_out(kind)

    async def _work_out(self, kind: Kind) -> None:
        try:
            said = await self.forecasting.run(
                lambda: work_out(kind, self.endpoints, self.settings.predictor_path)
            )
        except Exception:
            LOG.exception("a forecast failed", extra={"told": {"kind": kind}})
            said = {}
        self.forecasts.learn(kind, said)
