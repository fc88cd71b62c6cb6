"""A place for requests that are paid for: a queue, nodes, workers and an agent, each a process on a host of
its own, which can be killed, started again and cut off. For the benchmark and the test of the whole flow."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
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
START_S, LOOK_S = 300.0, 0.05
DEPOSIT = 10**9
PARTS = Path(__file__).with_name("flow_parts.py")


class NotUp(RuntimeError):
    """A process that did not get ready; says its last words."""


@dataclass(frozen=True)
class Forked:
    """A process that another one has started."""

    pid: int

    def poll(self) -> int | None:
        """None while it runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until it is gone."""
        while self.poll() is None:
            time.sleep(0.005)


Process = Forked | subprocess.Popen[bytes]


class Nursery:
    """Starts processes that have imported everything."""

    def __init__(self) -> None:
        own = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "METAINF_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(PARTS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, **own}, text=True,
        )  # fmt: skip

    def start(self, host: Host, kind: str, words: Sequence[str], log: Path) -> Forked:
        """One more. The first waits until the nursery is ready. Raises NotUp."""
        assert self.process.stdin is not None and self.process.stdout is not None
        told = {"namespace": host.namespace, "kind": kind, "words": list(words), "log": str(log)}
        log.touch()
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        while (said := self.process.stdout.readline().strip()) and not said.isdigit():
            pass
        if not said:
            raise NotUp("the nursery has ended")
        return Forked(int(said))

    def close(self) -> None:
        """End it; who was started goes on."""
        self.process.kill()
        self.process.wait()


@dataclass
class Part:
    """One process: how it is started, given its log, and the word there that tells that it is ready."""

    name: str
    begun: Callable[[Path], Process]
    word: str
    folder: Path
    starts: int = 0
    process: Process | None = None

    @property
    def log(self) -> Path:
        """What it said since it was last started."""
        return self.folder / f"{self.name}-{self.starts}.log"

    def start(self) -> None:
        """Start it (again)."""
        self.starts += 1
        self.process = self.begun(self.log)

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
        self.nursery = Nursery()
        self.network = Network(1 + max(NODES))
        hosts = self.network.hosts
        self.url = f"nats://{hosts[QUEUE].address}:4222"
        self.agent_url = f"http://127.0.0.1:{AGENT_PORT}"
        self.ledger = folder / "ledger.sqlite"
        self.operator, self.payer = folder / "operator.key", folder / "payer.key"
        self.deposit("payer", DEPOSIT)
        self.queue = Part("queue", self._queue, "Server is ready", folder)
        self.nodes = [Part(f"node-{at}", self._node(at), "ready", folder) for at in range(len(NODES))]
        self.workers = [
            Part(f"worker-{at}", self._command(host, *self._work(at)), " slots", folder)
            for at, host in enumerate(WORKERS)
        ]
        self.agent = Part("agent", self._command(CLIENT, *self._agent()), "listening on", folder)

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
        rest = [*self.nodes, *self.workers, self.agent]
        for each in rest:
            each.start()
        for each in rest:
            await each.up()

    def close(self) -> None:
        """End everything that runs here."""
        for each in (*self.nodes, *self.workers, self.agent, self.queue):
            each.kill()
        for pid in running(self.network.hosts):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        self.network.close()
        self.nursery.close()

    def _queue(self, log: Path) -> Process:
        host = self.network.hosts[QUEUE]
        where = ("--addr", host.address, "--port", "4222", "--store_dir", str(self.folder / "jetstream"))
        command = host.command(str(program()), "--jetstream", *where)
        with log.open("wb") as said:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)

    def _node(self, at: int) -> Callable[[Path], Process]:
        host, (start, end) = self.network.hosts[NODES[at]], SPANS[at]
        told = Told(
            checkpoint=str(self.model), join=self.url, span=Span(start=start, end=end), host=host.address,
            identity=str(self.folder / f"node-{at}.key"), cache=str(self.folder), paid=True,
            least_nanousd_per_pass=PRICE, ledger=str(self.ledger),
        )  # fmt: skip
        kind = "liar" if at == LIAR else "node"
        return lambda log: self.nursery.start(host, kind, [told.canonical()], log)

    def _command(self, host: int, *words: str) -> Callable[[Path], Process]:
        """A command of MetaInf."""
        there = self.network.hosts[host]
        return lambda log: self.nursery.start(there, "command", words, log)

    def _work(self, at: int) -> list[str]:
        where = ("--queue", self.url, "--join", self.url, "--model", str(self.model))
        kept = str(self.folder / f"believed-{at}.sqlite")
        return ["swarm", "work", *where, "--slots", str(SLOTS), "--reputation", kept]

    def _agent(self) -> list[str]:
        money = ("--pay-from", str(self.payer), "--ledger", str(self.ledger), "--price", str(PRICE))
        return ["swarm", "serve", "--queue", self.url, "--port", str(AGENT_PORT), *money]


@asynccontextmanager
async def place(folder: Path, model: Path) -> AsyncIterator[Place]:
    """All of it, running."""
    made = Place(folder, model)
    try:
        await made.start()
        yield made
    finally:
        made.close()
