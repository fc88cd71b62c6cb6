"""An engine as a process of its own: started, waited for, watched, and surely ended.

Between the runner and the engine stands `guard`, which ends the engine when the runner ends, however it
ends. The engine's words go to a file of which the head and the tail are read, so that a talkative engine
costs no memory.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from metainf.domain import BadInput, MetaInfError

GUARD = Path(__file__).with_name("guard.py")
HOST = "127.0.0.1"
PORT_TRIES = 4
LOG_BYTES = 1 << 18
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.5
DEATH_PATIENCE_S = 2.0
"""How long an engine that has stopped answering may take to be found dead."""
TAKEN = ("address already in use", "errno 98", "couldn't bind", "failed to bind", "eaddrinuse")


class EngineEnded(MetaInfError):
    """The engine ended when it should have run. `status` is negative for a signal."""

    def __init__(self, status: int, log: str) -> None:
        self.status, self.log = status, log
        how = f"by signal {-status} ({_signal_name(-status)})" if status < 0 else f"with exit status {status}"
        super().__init__(f"the engine ended {how}")


class NotReady(MetaInfError):
    """The engine did not answer its health address in time."""

    def __init__(self, within_s: float, log: str) -> None:
        self.log = log
        super().__init__(f"the engine was not ready after {within_s:g} s")


@dataclass(frozen=True)
class Command:
    """How an engine starts. `address` gives the words that make it listen; `port` None is any free one.

    `files` are written into its folder before the start. Times in seconds.
    """

    argv: Sequence[str]
    address: Callable[[str, int], Sequence[str]]
    health: str = "/health"
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    ready_within_s: float = 300.0
    grace_s: float = 5.0


class EngineProcess:
    """A running engine. Use as a context manager: entering waits until it is ready, leaving ends it.

    Raises BadInput where a port that was asked for is taken, EngineEnded where the engine ends before it
    is ready, NotReady where it takes too long.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.port = 0
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def base_url(self) -> str:
        """Without /v1."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process above the engine's."""
        assert self._guard is not None, "not started"
        return self._guard.pid

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def poll(self) -> int | None:
        """Its exit status once it has ended, negative for a signal; None while it runs."""
        return None if self._guard is None else self._guard.poll()

    def check(self, patience_s: float = 0.0) -> None:
        """Raise EngineEnded where it has ended, or does within that time: what fails at its doors all at
        once is often an engine's end, which takes a moment to show."""
        if self._guard is not None and patience_s > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(patience_s)
        status = self.poll()
        if status is not None:
            raise EngineEnded(status, self.log())

    def log(self, most_bytes: int = LOG_BYTES, since: int = 0) -> str:
        """What it wrote from byte `since` on: all of it, or the head and the tail where that is longer than
        `most_bytes`."""
        return "" if self._folder is None else read_ends(self._log_file, most_bytes, since)

    def log_bytes(self) -> int:
        """How much it has written."""
        return self._log_file.stat().st_size if self._folder is not None else 0

    @property
    def _log_file(self) -> Path:
        assert self._folder is not None, "not started"
        return Path(self._folder.name) / "log"

    def stop(self) -> None:
        """End it and all its descendants: SIGTERM, then SIGKILL. Nothing where it has ended."""
        guard, self._guard = self._guard, None
        if guard is not None:
            _end(guard, self.command.grace_s)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _start(self) -> None:
        fixed = self.command.port
        if fixed is not None and not is_free(fixed):
            raise BadInput(
                f"port {fixed} is in use: end the program that listens there, or name another port"
            )
        self._folder = tempfile.TemporaryDirectory(prefix="metainf-", ignore_cleanup_errors=True)
        for name, text in self.command.files.items():
            (Path(self._folder.name) / name).write_text(text, encoding="utf-8")
        for left in reversed(range(PORT_TRIES)):
            self.port = free_port() if fixed is None else fixed
            self._spawn(Path(self._folder.name))
            try:
                self._wait()
                return
            except EngineEnded as error:
                if fixed is not None or not left or not any(sign in error.log.lower() for sign in TAKEN):
                    raise

    def _spawn(self, folder: Path) -> None:
        words = [*self.command.argv, *self.command.address(HOST, self.port)]
        guard = [sys.executable, "-I", "-S", str(GUARD), str(self.command.grace_s), *words]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **self.command.env}
        with (folder / "log").open("wb") as log:
            self._guard = subprocess.Popen(
                guard, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env, cwd=folder,
                process_group=0,
            )  # fmt: skip

    def _wait(self) -> None:
        """Ask its health address, ever more seldom; its death is noticed at once."""
        until, pause_s = time.monotonic() + self.command.ready_within_s, FIRST_PAUSE_S
        while not answers(self.port, self.command.health):
            if time.monotonic() >= until:
                raise NotReady(self.command.ready_within_s, self.log())
            self.check(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
        self.check()


def answers(port: int, path: str, within_s: float = 2.0) -> bool:
    """Whether an HTTP server at this port of this machine answers a path with success."""
    connection = http.client.HTTPConnection(HOST, port, timeout=within_s)
    try:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether this machine lets a server listen there. BadInput for what is no port."""
    if not 0 < port < 65536:
        raise BadInput(f"expected a port from 1 to 65535, found {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def read_ends(path: Path, most_bytes: int, since: int = 0) -> str:
    """A file's text from byte `since` on; of a longer one the two ends, with a line between that says so."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END) - since
            file.seek(since)
            if size <= most_bytes:
                return file.read().decode("utf-8", "replace")
            head = file.read(most_bytes // 2)
            file.seek(since + size - most_bytes // 2)
            tail = file.read()
    except OSError:
        return ""
    skipped = f"\n... {size - 2 * (most_bytes // 2):,} bytes left out ...\n"
    return head.decode("utf-8", "replace") + skipped + tail.decode("utf-8", "replace")


def _end(guard: subprocess.Popen[bytes], grace_s: float) -> None:
    """Let go of the guard's lifeline; kill its whole group where it does not end in time, and after it."""
    if guard.stdin is not None:
        guard.stdin.close()
    try:
        guard.wait(grace_s + 5.0)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
