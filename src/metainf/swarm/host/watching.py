"""A swarm watched by its operator: as a guest that only reads, and looks at most every second."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metainf.domain import BadInput
from metainf.swarm.broker.lengths import lengths
from metainf.swarm.broker.streams import BrokerLost, connected, hidden
from metainf.swarm.host.looking import Look, look
from metainf.swarm.net.directory import Directory, joined
from metainf.swarm.net.servers import Servers, shown
from metainf.swarm.plan.overview import Belief, Overview, Queue
from metainf.swarm.trust.reputation_store import Reputations
from metainf.swarm.words import Demand

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Watched:
    """Where the swarm is, and what else is known of it: a file of reputations, a broker's address."""

    join: str
    reputation: Path | None = None
    queue: str | None = None

    def __post_init__(self) -> None:
        """Raises BadInput for what cannot be watched; nothing is connected."""
        if self.join.startswith(("nats://", "tls://")):
            Servers.parse(self.join)
        elif not self.join.startswith(("dht://", "/")):
            found = shown(self.join)[:80]
            raise BadInput(f"expected nats://, tls:// or dht:// and an address, or /ip4/…, found {found!r}")
        if self.reputation is not None and not self.reputation.is_file():
            raise BadInput(f"expected a file of reputations at {self.reputation}, found none")
        if self.queue is not None:
            Servers.parse(self.queue)


@dataclass
class Watch:
    """Whoever asks within a second of another gets the same look. Nothing is opened before the first."""

    told: Watched
    _directory: Directory | None = None
    _broker: Any = None
    _seen: tuple[float, Look, Queue | None] | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def overview(self, demand: Demand) -> Overview:
        """What there is. Raises DirectoryLost, BadInput and MissingExtra; a lost queue says so itself."""
        seen, queue = await self._looked()
        return await asyncio.to_thread(self._overview, seen, queue, demand)

    async def close(self) -> None:
        """Leave."""
        if self._directory is not None:
            await self._directory.close()
        if self._broker is not None:
            with contextlib.suppress(Exception):  # it may be gone already
                await self._broker.close()

    async def _looked(self) -> tuple[Look, Queue | None]:
        async with self._turn:
            if self._seen is None or time.monotonic() - self._seen[0] >= LOOK_EVERY_S:
                if self._directory is None:
                    self._directory = await joined(self.told.join, stays=False)
                seen, queue = await asyncio.gather(look(self._directory), self._queue())
                self._seen = time.monotonic(), seen, queue
            return self._seen[1:]

    async def _queue(self) -> Queue | None:
        if self.told.queue is None:
            return None
        try:
            if self._broker is None:
                self._broker = await connected(self.told.queue, "watch")
            if not self._broker.is_connected:
                raise BrokerLost(f"the queue at {hidden(self.told.queue)} does not answer")
            return await lengths(self._broker.jetstream(timeout=3))
        except BrokerLost as error:
            return Queue(lost=str(error))

    def _overview(self, seen: Look, queue: Queue | None, demand: Demand) -> Overview:
        state = seen.state(demand)
        return Overview(
            directory=hidden(self.told.join.partition("?")[0]),
            complete=state.complete(),
            state=state,
            believed=self._believed([node.node for model in state.models for node in model.nodes]),
            queue=queue,
        )

    def _believed(self, nodes: list[str]) -> tuple[Belief, ...] | None:
        if self.told.reputation is None:
            return None
        kept = Reputations(self.told.reputation, time.time)
        believed, found = kept.believed(nodes), []
        for node in nodes:
            standing = kept.standing(node)
            found.append(
                Belief(
                    node=node,
                    reputation=believed.reputation[node],
                    known=standing is not None,
                    quarantined=node in believed.quarantined,
                    on_trial=node in believed.on_trial,
                    served=standing.served if standing else 0.0,
                    failed=standing.failed if standing else 0.0,
                    passed=standing.passed if standing else 0.0,
                    strikes=len(standing.strikes) if standing else 0,
                )
            )
        return tuple(found)
