"""`metainf node` and a caller who are given the URLs of three NATS servers, of which the leader is killed."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "nats"):
    pytest.importorskip(name, reason="needs the extra swarm")

from nats_cluster import ready, until, urls_of, whole  # noqa: E402
from small_swarm import small_model  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from metainf.api import swarming  # noqa: E402
from metainf.cli.app import app  # noqa: E402
from metainf.domain import MetaInfError, MissingExtra  # noqa: E402
from metainf.swarm.host.nats import cluster, program  # noqa: E402
from metainf.swarm.net.servers import BUCKET  # noqa: E402
from metainf.swarm.words import Demand  # noqa: E402

try:
    program()
except MissingExtra:
    pytest.skip("needs nats-server of the extra swarm", allow_module_level=True)

pytestmark = pytest.mark.engine  # alone: servers that get no processor elect leaders again and again
WITHIN_S = 240.0


@contextmanager
def node(url: str, folder: Path, span: str, log: Path) -> Iterator[None]:
    """A node as a process."""
    words = ["node", "--join", url, "--model", str(folder), "--span", span, "--threads", "1", "--json"]
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "metainf", *words], stdout=out, stderr=out)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def until_listed(url: str, count: int) -> None:
    """Until a newcomer reads of so many nodes that are online."""
    end = time.monotonic() + WITHIN_S
    listed, last = -1, ""
    while listed != count:
        assert time.monotonic() < end, f"expected {count} nodes, found {listed}, last {last or 'no error'}"
        try:
            state = asyncio.run(swarming.status(url, Demand()))
            listed = sum(each.state == "online" for model in state.models for each in model.nodes)
            last = ""
        except MetaInfError as error:  # nobody leads
            last = str(error)
            time.sleep(0.2)


def text(url: str, folder: Path) -> str:
    words = ["--join", url, "--model", str(folder), "-p", "the rivers", "-n", "8", "--json"]
    ran = CliRunner().invoke(app, ["swarm", "generate", *words])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return str(json.loads(ran.stdout)["text"])


def test_nodes_outlive_the_leader_of_their_directory_and_new_ones_come(tmp_path: Path) -> None:
    folder, servers = small_model(tmp_path / "model"), cluster(tmp_path / "nats")
    url = urls_of(servers)

    async def begin() -> None:
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in servers))
        await (await ready(servers)).close()

    try:
        asyncio.run(begin())
        with node(url, folder, "0:2", tmp_path / "a.log"), node(url, folder, "2:4", tmp_path / "b.log"):
            until_listed(url, 2)
            unharmed = text(url, folder)
            told = asyncio.run(until(servers, f"KV_{BUCKET}", whole))
            assert told.config.num_replicas == 3
            servers[int(told.cluster.leader.rpartition("-")[2])].kill()
            until_listed(url, 2)
            assert text(url, folder) == unharmed
            with node(url, folder, "0:4", tmp_path / "c.log"):
                until_listed(url, 3)
            until_listed(url, 2)
            assert text(url, folder) == unharmed
    finally:
        for each in servers:
            each.stop()
