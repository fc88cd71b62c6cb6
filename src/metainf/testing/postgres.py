"""A PostgreSQL server of one's own, where its programs are installed: for tests and benchmarks."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
FAST = "-c fsync=off"
"""For tests: nothing survives a loss of power."""


def server_user() -> str | None:
    """The user that runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


@contextmanager
def running(settings: str = FAST) -> Iterator[Path]:
    """A running server; it listens on a socket in this folder only, whose name stays short for that. Its
    first process is named in `data/postmaster.pid`."""
    user, folder, binaries = server_user(), Path(tempfile.mkdtemp(prefix="pg-")), BINARIES[-1].parent
    if user is not None:
        shutil.chown(folder, user)
    data = str(folder / "data")

    def server(*command: str) -> None:
        with (folder.parent / f"{folder.name}.log").open("ab") as log:
            subprocess.run(command, check=True, user=user, cwd="/", stdout=log, stderr=log, timeout=60)

    told = f"-c listen_addresses='' -k {folder} {settings}"
    control = str(binaries / "pg_ctl")
    try:
        server(
            str(binaries / "initdb"), "-D", data, "-U", "suite", "-A", "trust", "-E", "UTF8", "--no-locale"
        )
        server(control, "-D", data, "-w", "-t", "50", "-o", told, "-l", f"{data}/server.log", "start")
        yield folder
        server(control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        (folder.parent / f"{folder.name}.log").unlink(missing_ok=True)


def url_of(folder: Path, schema: str) -> str:
    """The address of a schema of that server, made where it is not there."""
    import psycopg

    with psycopg.connect(host=str(folder), user="suite", dbname="postgres") as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    return f"postgresql://suite@/postgres?host={folder}&options=-csearch_path%3D{schema}"
