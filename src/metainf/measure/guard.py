"""Stands between the runner and an engine, so that whatever ends the runner ends the engine too.

`python -I -S guard.py GRACE_S COMMAND...` starts the command and waits for its end or for the end of its own
standard input, which the runner holds open: SIGKILL of the runner closes it like any other death. It then
ends the command and all that descend from it, first with SIGTERM, after GRACE_S seconds with SIGKILL. It
ends as the command ended, by the same signal where there was one, and takes the engine's folder along where
nobody is left who could read its log. Only the standard library, for it is started with nothing else. On
Linux descendants that left the process group are found too.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SET_DEATH_SIGNAL, SET_SUBREAPER = 1, 36
PROC = Path("/proc")
POLL_S = 0.05
FOLDER = "metainf-"
"""The beginning of the name of the folder that the runner makes for one engine."""


def main(grace_s: float, command: list[str]) -> int:
    """The exit status of the command as subprocess tells it: negative for a signal."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    _control(SET_SUBREAPER, 1)
    try:
        engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_me)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127
    alone = False
    while engine.poll() is None:
        ready = select.select([0, woken], [], [])[0]
        if woken in ready and signal.SIGCHLD not in os.read(woken, 512):
            break
        if 0 in ready and not os.read(0, 512):
            alone = True
            break
    _end_all(engine, grace_s)
    if alone and Path.cwd().name.startswith(FOLDER):
        shutil.rmtree(Path.cwd(), ignore_errors=True)
    return engine.wait()


def _end_all(engine: subprocess.Popen[bytes], grace_s: float) -> None:
    """End the engine and everything that it left behind."""
    for process in _descendants():
        _send(process, signal.SIGTERM)
    if engine.poll() is None:
        engine.terminate()
    until = time.monotonic() + grace_s
    while time.monotonic() < until and (engine.poll() is None or _descendants()):
        time.sleep(POLL_S)
    while left := _descendants():
        for process in left:
            _send(process, signal.SIGKILL)
        time.sleep(POLL_S / 5)
    if engine.poll() is None:
        engine.kill()


def _descendants() -> list[int]:
    """Living processes below this one, of which the dead are reaped (but for the engine, which its
    Popen reaps); none where there is no /proc."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            parents.setdefault(int(parent), []).append(int(entry.parent.name))
    found, look = [], [os.getpid()]
    while look:
        below = parents.get(look.pop(), [])
        found += below
        look += below
    return found


def _die_with_me() -> None:
    _control(SET_DEATH_SIGNAL, signal.SIGKILL)


def _control(what: int, value: int) -> None:
    """prctl, where the system has it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(what, value, 0, 0, 0)


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


if __name__ == "__main__":
    status = main(float(sys.argv[1]), sys.argv[2:])
    if status < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        time.sleep(5)
    raise SystemExit(status & 0xFF)
