"""A PostgreSQL server that the tests start themselves, where its programs are installed."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
SCHEMAS = itertools.count()


def server_user() -> str | None:
    """The user that runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


@pytest.fixture(scope="module")
def socket_folder() -> Iterator[Path]:
    """A running server; it listens on a socket in this folder only. Its name stays short for that."""
    pytest.importorskip("psycopg")
    user, folder, binaries = server_user(), Path(tempfile.mkdtemp(prefix="pg-")), BINARIES[-1].parent
    if user is not None:
        shutil.chown(folder, user)
    data = str(folder / "data")

    def server(*command: str) -> None:
        with (folder.parent / f"{folder.name}.log").open("ab") as log:
            subprocess.run(command, check=True, user=user, cwd="/", stdout=log, stderr=log, timeout=60)

    settings = f"-c listen_addresses='' -k {folder} -c fsync=off"
    control = str(binaries / "pg_ctl")
    try:
        server(
            str(binaries / "initdb"), "-D", data, "-U", "suite", "-A", "trust", "-E", "UTF8", "--no-locale"
        )
        server(control, "-D", data, "-w", "-t", "50", "-o", settings, "-l", f"{data}/server.log", "start")
        yield folder
        server(control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        (folder.parent / f"{folder.name}.log").unlink(missing_ok=True)


@pytest.fixture
def postgres_url(socket_folder: Path) -> str:
    """An empty schema of its own on the server."""
    import psycopg

    schema = f"store_{next(SCHEMAS)}"
    with psycopg.connect(host=str(socket_folder), user="suite", dbname="postgres") as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return f"postgresql://suite@/postgres?host={socket_folder}&options=-csearch_path%3D{schema}"
