"""Unlike llama.cpp endpoints on one machine, each on a part of a core that it shares with nobody.

Shares are set with the kernel's control groups where this process may write them (as root); else processes
are only bound to cores, those of one core share it, and `running` says so.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metainf.measure.weights import bundled

PERIOD_US = 10_000
GROUPS = Path("/sys/fs/cgroup")
START_S = 120.0


@dataclass(frozen=True)
class Endpoint:
    """An engine of one thread on `share` of a core: its price, sequences at once, if it keeps prompts."""

    name: str
    usd_per_hour: float
    core: int
    share: float
    slots: int
    keeps: bool = True

    @property
    def words(self) -> list[str]:
        """For the engine."""
        kept = [] if self.keeps else ["--no-cache-prompt"]
        return ["-t", "1", "-np", str(self.slots), "-c", str(1024 * self.slots), *kept]


def group(number: int, share: float) -> Path | None:
    """A new control group with so much of a core; None where there can be none."""
    old = (GROUPS / "cpu").is_dir()
    made = (GROUPS / "cpu" if old else GROUPS) / f"metainf-bench-{os.getpid()}-{number}"
    quota = int(share * PERIOD_US)
    try:
        made.mkdir()
        if old:
            (made / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (made / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (made / "cpu.max").write_text(f"{quota} {PERIOD_US}")
    except OSError:
        with contextlib.suppress(OSError):
            made.rmdir()
        return None
    return made


@contextlib.contextmanager
def running(endpoints: tuple[Endpoint, ...]) -> Iterator[tuple[list[str], bool]]:
    """The addresses of all endpoints, once they answer, and whether each has its share for itself."""
    processes, urls, groups = [], [], []
    with tempfile.TemporaryFile() as log:
        try:
            for number, each in enumerate(endpoints):
                groups.append(group(number, each.share))
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = str(free.getsockname()[1])
                command = [sys.executable, "-m", "metainf.hosts.llama_cpp", "-m", str(bundled())]
                command += ["--host", "127.0.0.1", "--port", port, *each.words]
                processes.append(subprocess.Popen(_bound(each, groups[-1], command), stderr=log))
                urls.append(f"http://127.0.0.1:{port}")
            for url in urls:
                _await(url)
            yield urls, all(made is not None for made in groups)
        finally:
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.wait(20)
            for made in groups:
                if made is not None:
                    _removed(made)


def _bound(each: Endpoint, made: Path | None, command: list[str]) -> list[str]:
    """The command in its group, on its core."""
    bound = ["taskset", "-c", str(each.core % (os.cpu_count() or 1)), *command]
    if made is None:
        return bound
    return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(made / "cgroup.procs"), *bound]


def _removed(made: Path) -> None:
    """It goes once the last thread has gone."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            made.rmdir()
            return
        time.sleep(0.1)


def _await(url: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health") as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"{url} did not start")
