"""How a host starts: its port first, then the model, then answers until it is told to end."""

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from metainf.domain import MissingExtra
from metainf.hosts.asked import Writer
from metainf.hosts.openai import serve

Behind = TypeVar("Behind")

UNREADABLE = 3
"""What a host returns for a model that it cannot load."""


def take(host: str, port: int) -> socket.socket:
    """A socket bound to host:port, that refuses until `serve` listens on it. OSError where it is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError:
        taken.close()
        raise
    return taken


def last_line(error: Exception) -> str:
    """The last line of a message; libraries put their call stacks before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def run(load: Callable[[], Writer], model: str, host: str, port: int) -> int:
    """0 after the end, 1 for a taken port or a missing part, 3 for the model; one line says why."""

    def of_file() -> Writer:
        if not Path(model).exists():
            raise FileNotFoundError("no such file or folder")
        return load()

    return answer(of_file, serve, model, host, port)


def answer(
    load: Callable[[], Behind],
    serving: Callable[[Behind, socket.socket], Coroutine[Any, Any, None]],
    model: str,
    host: str,
    port: int,
) -> int:
    """`run` for whatever stands behind a server, with how it is served."""
    try:
        taken = take(host, port)
    except OSError as error:
        print(f"cannot listen on {host}:{port}: {error}", file=sys.stderr)
        return 1
    try:
        behind = load()
    except MissingExtra as error:
        print(error, file=sys.stderr)
        return 1
    except (RuntimeError, OSError, ValueError, LookupError) as error:
        print(f"cannot load {model}: {last_line(error)}", file=sys.stderr)
        return UNREADABLE
    asyncio.run(serving(behind, taken))
    return 0
