"""A server in a process of its own, for tests."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOODBYE_S = 60.0


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@dataclass
class Running:
    """A process that serves."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path

    def kill(self) -> None:
        """As the power cut does it: no goodbye."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> int:
        """As a person does it."""
        self.process.terminate()
        return self.process.wait(GOODBYE_S)

    def logged(self) -> list[dict[str, Any]]:
        """Its log, line by line; the last one counts once it is whole."""
        lines = self.log.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]
