"""Processes of one's own: nodes, and how processes are ended."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metainf.domain import MetaInfError

if TYPE_CHECKING:
    from metainf.swarm.host.running import Told

START_S = 120.0


class DidNotStart(MetaInfError):
    """A process that ended before it was ready; says its last words."""


@dataclass
class Running:
    """A node in a process of its own, and what it said when it was ready."""

    name: str
    told: "Told"
    process: asyncio.subprocess.Process
    node: str = ""
    words: list[str] = field(default_factory=list)


async def start_node(name: str, told: "Told") -> Running:
    """Start one; `ready` waits for it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "metainf.swarm.host.running",
        told.canonical(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return Running(name, told, process)


async def ready(running: Running, within_s: float = START_S) -> None:
    """Wait until it announces itself. Raises DidNotStart with its last words."""
    line = await heard(running, "ready", within_s)
    running.words = line.split()
    running.node = running.words[1]


async def heard(running: Running, word: str, within_s: float = START_S) -> str:
    """The next line of a node that begins with the word. Raises DidNotStart where it ends or is silent."""
    assert running.process.stdout is not None and running.process.stderr is not None
    end = time.monotonic() + within_s
    while True:
        try:
            left = end - time.monotonic()
            line = (await asyncio.wait_for(running.process.stdout.readline(), left)).decode()
        except TimeoutError:
            raise DidNotStart(f"node {running.name} did not say {word!r} within {within_s:.0f} s") from None
        if not line:
            said = (await running.process.stderr.read()).decode(errors="replace")[-800:]
            raise DidNotStart(f"node {running.name} ended: {said.strip() or 'it said nothing'}")
        if line.split()[:1] == [word]:
            return line


def stopped(processes: Sequence[subprocess.Popen[bytes]], within_s: float = 5.0) -> None:
    """Ask processes to end, and end those that do not."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def all_stopped(nodes: Sequence[Running], within_s: float = 8.0) -> None:
    """Let nodes drain; end those that take too long."""
    alive = [each.process for each in nodes if each.process.returncode is None]
    for process in alive:
        process.terminate()
    for process in alive:
        try:
            await asyncio.wait_for(process.wait(), within_s)
        except TimeoutError:
            process.kill()
            await process.wait()
