"""The embedded server of the queue: NATS with JetStream as a child process of this one."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.swarm.host.embedded import DidNotStart
from metainf.swarm.host.nats import Server, told_port

LOOK_S = 0.2


class Listens(Frozen):
    """What the server is reached by, where it keeps its streams, and its process."""

    url: str
    folder: str
    process: int


async def run(folder: Path, port: int, say: Callable[[Listens], None]) -> None:
    """Serve until SIGTERM or SIGINT, at this machine only; 0 takes a free port. What waited in the folder is
    there again. Raises BadInput for a folder in use, DidNotStart where the server does not start or ends by
    itself, MissingExtra."""
    _unused(folder)
    stop, loop, server = asyncio.Event(), asyncio.get_running_loop(), Server(folder, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await asyncio.to_thread(server.start)
    process = server.process
    assert process is not None
    try:
        say(Listens(url=server.url, folder=str(folder), process=process.pid))
        while not stop.is_set() and process.poll() is None:
            await _within(stop, LOOK_S)
        if not stop.is_set():
            await _within(stop, LOOK_S)  # Ctrl-C reaches both processes, this one perhaps a little later
        if not stop.is_set():
            raise DidNotStart(
                f"the NATS server of {folder} ended by itself: {folder / 'nats.log'} tells more"
            )
    finally:
        await asyncio.to_thread(server.stop)


async def _within(stop: asyncio.Event, wait_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), wait_s)
    except TimeoutError:
        return


def _unused(folder: Path) -> None:
    """Two servers would break each other's streams."""
    port = told_port(folder)
    if not port:
        return
    with socket.socket() as asked:
        asked.settimeout(1.0)
        if asked.connect_ex(("127.0.0.1", port)) == 0:
            raise BadInput(f"expected a folder that no server uses, found one of {folder} at port {port}")
