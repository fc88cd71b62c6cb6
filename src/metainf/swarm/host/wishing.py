"""Once a minute the scheduler may wish that an idle replica run another method, which is told to the node."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from metainf.swarm.host.book import pause
from metainf.swarm.net.changing import NotChanged, asked_to_change, wish

if TYPE_CHECKING:
    from metainf.swarm.host.caller import Caller

LOG = logging.getLogger("metainf.swarm")
WISH_EVERY_S = 60.0


async def wishing(caller: "Caller", stop: asyncio.Event, every_s: float = WISH_EVERY_S) -> None:
    """Until told to stop. A fault of ours is logged and ends nothing."""
    while not stop.is_set():
        await pause(stop, every_s)
        try:
            if not stop.is_set():
                await wished(caller)
        except Exception:
            LOG.exception("an error of MetaInf's own while methods were compared")


async def wished(caller: "Caller") -> tuple[str, str] | None:
    """Wish what the scheduler finds; the node and the method where the node will do it."""
    scheduler = caller.scheduler
    found = None if scheduler is None else scheduler.wish()
    if scheduler is None or found is None:
        return None
    node, method = found
    scheduler.counts["changes_wished"] += 1
    way = caller.channel_to(node)
    try:
        if way is None:
            raise NotChanged("it has left")
        await asked_to_change(way, wish(caller.identity, node, method, time.time()))
    except NotChanged as error:
        LOG.info("%s does not change to %s: %s", node, method, error)
        scheduler.refused(node)
        return None
    scheduler.counts["changes"] += 1
    return found
