"""How much waits in the queue: read from the server's counts by subject, which anybody may have written."""

import re
from collections.abc import Mapping
from typing import Any

from metainf.swarm.broker.streams import ASK, DEAD, REQUESTS, BrokerLost
from metainf.swarm.plan.overview import Queue, Waiting

NAME = re.compile(rf"{ASK}\.([a-zA-Z0-9_-]{{1,64}})\.([012])\.([a-zA-Z0-9_-]{{1,64}})")
Place = tuple[str, int, str]
"""Group, class, tenant."""


def places(subjects: Mapping[str, int]) -> dict[Place, int]:
    """Jobs by group, class and tenant; subjects of any other form are nobody's."""
    found: dict[Place, int] = {}
    for name, count in subjects.items():
        told = NAME.fullmatch(name)
        if told is not None:
            found[told[1], int(told[2]), told[3]] = int(count)
    return found


def queue(subjects: Mapping[str, int], dead: int) -> Queue:
    """The same by group and class."""
    known = places(subjects)
    jobs: dict[tuple[str, int], int] = {}
    tenants: dict[tuple[str, int], int] = {}
    for (group, priority, _), count in known.items():
        jobs[group, priority] = jobs.get((group, priority), 0) + count
        tenants[group, priority] = tenants.get((group, priority), 0) + 1
    waiting = (
        Waiting(group=group, priority=priority, jobs=count, tenants=tenants[group, priority])
        for (group, priority), count in sorted(jobs.items())
    )
    strange = sum(subjects.values()) - sum(known.values())
    return Queue(waiting=tuple(waiting), dead=dead, strange=strange)


async def lengths(stream: Any) -> Queue:
    """What waits at a server (its JetStream context). Makes nothing there: no stream is an empty queue.
    Raises BrokerLost."""
    from nats.js.errors import NotFoundError

    async def told(name: str, subjects: str | None = None) -> Any:
        try:
            return (await stream.stream_info(name, subjects_filter=subjects)).state
        except NotFoundError:
            return None

    try:
        asked, dead = await told(REQUESTS, f"{ASK}.>"), await told(DEAD)
    except Exception as error:  # many kinds: timeouts, closed connections, no leader
        raise BrokerLost(f"the queue does not answer: {error!r}") from None
    return queue((asked.subjects or {}) if asked else {}, dead.messages if dead else 0)
