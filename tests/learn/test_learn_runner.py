"""Processes of an evaluation do not outlive the one that started them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = "import time, sys; from metainf.learn.runner import follow; follow(int(sys.argv[1])); time.sleep(120)"
PARENT = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
print(child.pid, flush=True)
time.sleep(120)
"""


def running(pid: int) -> bool:
    """Whether a process is there and has not ended (an ended one may wait to be collected)."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes from /proc")
def test_a_worker_ends_after_its_parent_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert running(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not running(child)
