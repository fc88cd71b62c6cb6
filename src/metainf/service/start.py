"""Starting the service: where it listens, in how many processes, and what it says of that."""

import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from metainf import api
from metainf.api import imports
from metainf.api.choosing import load_predictor
from metainf.domain import BadInput
from metainf.service.access import rate_of
from metainf.service.observing import MULTIPROCESS, log_in_json
from metainf.service.protocol import Bounded
from metainf.service.running import watched
from metainf.service.settings import LOOPBACK, VARIABLE, Settings
from metainf.swarm.net.servers import in_the_open

MOST_CONNECTIONS = 2000
GRACE_S = 10
KEPT_S = 75
WORKER_S = 60


@dataclass(frozen=True)
class Listening:
    """Where and how it listens."""

    host: str
    port: int
    workers: int = 1
    certificate: Path | None = None
    key: Path | None = None

    @property
    def public(self) -> bool:
        """Whether other machines reach it."""
        return self.host not in LOOPBACK


def listen(settings: Settings, where: Listening, tell: Callable[[str], None]) -> None:
    """Serve until told to stop. Raises BadInput before it listens where it may not or cannot."""
    if settings.rate is not None:
        rate_of(settings.rate)
    watched(settings)
    if (word := in_the_open(settings.swarm, settings.queue)) is not None:
        tell(f"warning: {word}")
    settings = settings.model_copy(update={"public": where.public})
    name, locked, sqlite = guarded(settings.store, where)
    load_predictor(None if settings.predictor is None else Path(settings.predictor))
    bound = bind(where)
    tell(f"metainf listens at {told_address(where, bound, locked)}; records in {name}")
    if where.workers > 1 and sqlite:
        tell("several workers share one SQLite file: additions wait for each other; PostgreSQL does better")
    os.environ[VARIABLE] = settings.model_dump_json()
    run("metainf.service.app:from_environment", where, bound)


def guarded(store: str | None, where: Listening) -> tuple[str, bool, bool]:
    """The store's name, whether a key is asked for, and whether it is SQLite. Raises BadInput where other
    machines would reach what nothing guards, or a certificate is not there."""
    with api.store(store) as opened:
        keys = imports.keyring(opened).all()
        name, sqlite = opened.name, opened.database.is_sqlite
    if where.public and not any(key.revoked_at is None for key in keys):
        raise BadInput(
            f"expected an API key before listening at {where.host}, found none: make one with metainf keys "
            "add NAME --scope admin, or listen at 127.0.0.1"
        )
    for path in (where.certificate, where.key):
        if path is not None and not path.is_file():
            raise BadInput(f"expected a PEM file at {path}, found none")
    return name, bool(keys) or where.public, sqlite


def told_address(where: Listening, bound: socket.socket, locked: bool) -> str:
    """Where it listens, and who may ask."""
    host, port = bound.getsockname()[:2]
    scheme = "https" if where.certificate is not None else "http"
    shown = f"[{host}]" if ":" in host else host
    told = "a key is needed" if locked else "no keys yet, so on this machine only"
    return f"{scheme}://{shown}:{port} ({told})"


def bind(where: Listening) -> socket.socket:
    """The socket. BadInput where the address is not to be had."""
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((where.host, where.port))
    except OSError as error:
        bound.close()
        raise BadInput(f"cannot listen at {where.host}:{where.port}: {error.strerror or error}") from None
    bound.set_inheritable(True)
    return bound


def run(app: Any, where: Listening, bound: socket.socket, grace_s: int = GRACE_S) -> None:
    """Serve an application, or what a name `module:function` makes, until told to stop."""
    counts = None
    if where.workers > 1 and MULTIPROCESS not in os.environ:
        counts = tempfile.TemporaryDirectory(prefix="metainf-metrics-")
        os.environ[MULTIPROCESS] = counts.name
    log_in_json(os.environ.get("METAINF_LOG", "INFO"))
    config = uvicorn.Config(
        app,
        http=Bounded,
        factory=isinstance(app, str),
        workers=where.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=KEPT_S,
        timeout_worker_healthcheck=WORKER_S,
        ssl_certfile=where.certificate,
        ssl_keyfile=where.key,
    )
    try:
        if where.workers > 1:
            from uvicorn.supervisors import Multiprocess

            Multiprocess(config, sockets=[bound]).run()
        else:
            uvicorn.Server(config).run(sockets=[bound])
    finally:
        bound.close()
        if counts is not None:
            counts.cleanup()
