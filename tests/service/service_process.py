"""A real service for tests: its own process, a free port, a store of its own."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from running_process import Running as Served

__all__ = ["Served", "served"]

START_S = 60.0
AT = re.compile(r"listens at (https?://\S+) ")


@contextlib.contextmanager
def served(store: str | Path, *options: str, log: Path, **environment: str) -> Iterator[Served]:
    """A service over a store, ready to answer; killed at the end."""
    command = [sys.executable, "-m", "metainf", "serve", "--port", "0", "--store", str(store), *options]
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "METAINF_OFFLINE": "1", **environment},
            start_new_session=True,
        )
    assert process.stdout is not None
    found = None
    for line in process.stdout:
        found = AT.search(line)
        if found is not None:
            break
    assert found is not None, log.read_text(encoding="utf-8")[-3000:]
    one = Served(process, found[1], log)
    try:
        _wait(one)
        yield one
    finally:
        one.kill()


def _wait(one: Served) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{one.url}/ready", verify=False).status_code == 200:
                return
        assert one.process.poll() is None, one.log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.05)
    raise AssertionError(f"not ready after {START_S:g} s: {one.log.read_text(encoding='utf-8')[-3000:]}")
