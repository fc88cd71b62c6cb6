"""A place for requests that are paid for: a queue, nodes, workers and an agent, each a process on a host of
its own, which can be killed, started again and cut off. For the benchmark and the test of the whole flow."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from metainf.api import ledger
from metainf.swarm.host.nats import program
from metainf.swarm.host.running import Told
from metainf.swarm.trust.identity import kept
from metainf.swarm.words import Span
from metainf.testing.networks import Host, Network, running

QUEUE, CLIENT, WORKERS, NODES = 0, 1, (2, 3), (4, 5, 6, 7)
"""The hosts of everything."""
SPANS = ((0, 2), (0, 2), (2, 4), (2, 4))
LIAR = 3
"""The node that signs for more than it did."""
PRICE, SLOTS, AGENT_PORT = 3, 4, 8323
START_S, LOOK_S = 90.0, 0.05
DEPOSIT = 10**9


class NotUp(RuntimeError):
    """A process that did not get ready; says its last words."""


@dataclass
class Part:
    """One process: where it runs, how it is started, the word in its log that tells that it is ready."""

    name: str
    host: Host
    command: Sequence[str]
    word: str
    folder: Path
    starts: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        """What it said since it was last started."""
        return self.folder / f"{self.name}-{self.starts}.log"

    def start(self) -> None:
        """Start it (again)."""
        self.starts += 1
        own = {
            "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "METAINF_OFFLINE": "1",
            "XDG_CACHE_HOME": str(self.folder), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.host.command(*self.command), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env={**os.environ, **own},
            )  # fmt: skip

    async def up(self, within_s: float = START_S) -> None:
        """Wait until it is ready. Raises NotUp."""
        end = time.monotonic() + within_s
        while self.word not in (said := self.log.read_text(encoding="utf-8", errors="replace")):
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > end:
                raise NotUp(f"{self.name} did not say {self.word!r}, but: {said[-800:]}")
            await asyncio.sleep(LOOK_S)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Place:
    """All of it; `folder` holds keys, logs, streams and the ledger. Made by `place`."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.network = Network(1 + max(NODES))
        hosts = self.network.hosts
        self.url = f"nats://{hosts[QUEUE].address}:4222"
        self.agent_url = f"http://127.0.0.1:{AGENT_PORT}"
        self.ledger = folder / "ledger.sqlite"
        self.operator, self.payer = folder / "operator.key", folder / "payer.key"
        self.deposit("payer", DEPOSIT)
        self.queue = Part("queue", hosts[QUEUE], self._queue(), "Server is ready", folder)
        self.nodes = [
            Part(f"node-{at}", hosts[host], self._node(at, hosts[host]), "ready", folder)
            for at, host in enumerate(NODES)
        ]
        self.workers = [
            Part(f"worker-{at}", hosts[host], self._worker(), " slots", folder)
            for at, host in enumerate(WORKERS)
        ]
        self.agent = Part("agent", hosts[CLIENT], self._agent(), "listening on", folder)

    def deposit(self, name: str, nanousd: int) -> None:
        """Money for the account of a key of that name, made here."""
        account = kept(self.folder / f"{name}.key").node
        ledger.deposit(self.ledger, self.operator, account, nanousd, f"for {name}")

    def node_id(self, at: int) -> str:
        """The account of a node."""
        return kept(self.folder / f"node-{at}.key").node

    async def start(self) -> None:
        """Everything, at once where it may. Raises NotUp."""
        self.queue.start()
        await self.queue.up()
        rest = [*self.nodes, self.agent]
        for each in rest:
            each.start()
        for each in rest:
            await each.up()
        for each in self.workers:
            each.start()
        for each in self.workers:
            await each.up()

    def close(self) -> None:
        """End everything that runs here."""
        for each in (*self.nodes, *self.workers, self.agent, self.queue):
            each.kill()
        for pid in running(self.network.hosts):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        self.network.close()

    def _queue(self) -> list[str]:
        where = ("--addr", self.network.hosts[QUEUE].address, "--port", "4222")
        return [str(program()), *where, "--jetstream", "--store_dir", str(self.folder / "jetstream")]

    def _node(self, at: int, host: Host) -> list[str]:
        start, end = SPANS[at]
        told = Told(
            checkpoint=str(self.model), join=self.url, span=Span(start=start, end=end), host=host.address,
            identity=str(self.folder / f"node-{at}.key"), cache=str(self.folder), paid=True,
            least_nanousd_per_pass=PRICE, ledger=str(self.ledger),
        )  # fmt: skip
        name = "metainf.testing.lying_node" if at == LIAR else "metainf.swarm.host.running"
        return [sys.executable, "-m", name, told.canonical()]

    def _worker(self) -> list[str]:
        where = ("--queue", self.url, "--join", self.url, "--model", str(self.model))
        return [sys.executable, "-m", "metainf", "swarm", "work", *where, "--slots", str(SLOTS)]

    def _agent(self) -> list[str]:
        money = ("--pay-from", str(self.payer), "--ledger", str(self.ledger), "--price", str(PRICE))
        where = ("--queue", self.url, "--port", str(AGENT_PORT))
        return [sys.executable, "-m", "metainf", "swarm", "serve", *where, *money]


@asynccontextmanager
async def place(folder: Path, model: Path) -> AsyncIterator[Place]:
    """All of it, running."""
    made = Place(folder, model)
    try:
        await made.start()
        yield made
    finally:
        made.close()
