"""NATS with the configuration of a whole swarm: the server reads it, and lets in whom it should."""

import asyncio
import datetime
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from metainf.domain import MissingExtra
from metainf.exports.swarm import USERS, nats_conf
from metainf.swarm.host.nats import free_ports


def certificates(folder: Path) -> None:
    """A self-signed pair for this machine that is its own authority."""
    cryptography = pytest.importorskip("cryptography", reason="needs the extra swarm")
    assert cryptography
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nats")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.crt").write_bytes(pem)
    (folder / "ca.crt").write_bytes(pem)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.key").write_bytes(secret)


def nats() -> str:
    from metainf.swarm.host.nats import program

    try:
        return str(program())
    except MissingExtra:
        pytest.skip("needs nats-server of the extra swarm")


ENVIRONMENT = {f"{each.upper()}_PASSWORD": f"{each}secret" for each in USERS} | {"SERVER_NAME": "one"}


@pytest.mark.parametrize("count", [1, 3])
def test_nats_takes_its_configuration(tmp_path: Path, count: int) -> None:
    certificates(tmp_path)
    path = tmp_path / "nats.conf"
    servers = [f"nats-{at}" for at in range(count)]
    path.write_text(nats_conf(servers, str(tmp_path), str(tmp_path / "data")), encoding="utf-8")
    ran = subprocess.run(
        [nats(), "-t", "-c", path], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@contextmanager
def running(folder: Path, count: int) -> Iterator[tuple[list[int], list[Any]]]:
    """Servers with this configuration, at ports of this machine: the ports, and what may be killed."""
    certificates(folder)
    ports = free_ports(3 * count)
    names = [f"nats-{at}" for at in range(count)]
    servers = []
    try:
        for at in range(count):
            port, monitor, route = ports[at::count]
            text = nats_conf(names, str(folder), str(folder / names[at]))
            for number, name in enumerate(names):
                text = text.replace(f"nats://{name}:6222", f"nats://127.0.0.1:{ports[2 * count + number]}")
            text = text.replace("4222", str(port)).replace("8222", str(monitor)).replace("6222", str(route))
            path = folder / f"{names[at]}.conf"
            path.write_text(text, encoding="utf-8")
            command = [nats(), "-a", "127.0.0.1", "-c", path, "-l", folder / "log"]
            servers.append(subprocess.Popen(command, env=ENVIRONMENT | {"SERVER_NAME": names[at]}))
        for port in ports[:count]:
            listens(port)
        led(folder / "log", count)
        yield ports[:count], servers
    finally:
        for each in servers:
            each.kill()
            each.wait(10)


def listens(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)


def led(log: Path, count: int) -> None:
    """Several servers first choose who leads."""
    end = time.monotonic() + 20
    while count > 1 and "metadata leader" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with this configuration; `{}` stands for user and password."""
    with running(tmp_path, 1) as ((port,), _):
        yield f"tls://{{}}@127.0.0.1:{port}?ca={tmp_path / 'ca.crt'}"


def job_of(number: int) -> Any:
    from metainf.swarm.broker.words import Job

    now = time.time()
    return Job(
        transaction=f"b2:{number:032x}", agent="agent", tenant="t", group="g", issued_s=now,
        deadline_s=now + 30, body="abc",
    )  # fmt: skip


async def turned(asked: Any, attempt: int) -> str:
    return str(asked.body[::-1])


def worker_at(url: str) -> Any:
    """One that announces itself, in the group g."""
    from metainf.swarm.broker.words import Member
    from metainf.swarm.host.working import Worker

    return Worker(url, Member(name="one", group="g", model="m", slots=2, request_s=1.0), turned)


async def refused(url: str, *subjects: str) -> list[str]:
    """Which of these subjects the server lets nobody publish to under this address."""
    from metainf.swarm.net.servers import Servers, opened

    told: list[str] = []

    async def heard(error: Exception) -> None:
        told.append(str(error).lower())

    connection = await opened(Servers.parse(url), error_cb=heard)
    for each in subjects:
        await connection.publish(each, b"")
    await connection.flush()
    end = time.monotonic() + 5
    while len(told) < len(subjects) and time.monotonic() < end:  # the client tells of errors a little later
        await asyncio.sleep(0.02)
    await connection.close()
    return [each for each in subjects if any(f'"{each}"'.lower() in error for error in told)]


def test_users_may_do_their_part_and_no_more(url: str) -> None:
    pytest.importorskip("nats", reason="needs the extra swarm")
    from metainf.swarm.net.directory import DirectoryLost, joined

    async def story() -> None:
        node = await joined(url.format("node:nodesecret"))
        await node.put("node.abc", b"1")
        reader = await joined(url.format("reader:readersecret"))
        assert await reader.records() == {"node.abc": b"1"}, "the reader reads"
        with pytest.raises(DirectoryLost):
            await reader.put("node.evil", b"2")
        assert await node.records() == {"node.abc": b"1"}, "and writes nothing"
        for wrong in ("node:wrong", "stranger:wrong"):
            with pytest.raises(DirectoryLost) as lost:
                await joined(url.format(wrong))
            assert "wrong" not in str(lost.value)
        await node.close()
        await reader.close()
        jobs = ("req.g.0.t", "rep.agent.x", "dead.g", "$KV.metainf-consumers.g.one")
        calls = ("$JS.API.STREAM.MSG.DELETE.METAINF_DEAD", "$JS.API.STREAM.CREATE.KV_metainf-consumers")
        for user in ("node", "reader"):
            everything = (*jobs, *calls)
            assert await refused(url.format(f"{user}:{user}secret"), *everything) == list(everything)
        others = (
            "$KV.metainf-swarm.node.evil", "$JS.API.STREAM.CREATE.KV_metainf-swarm",
            "$JS.API.CONSUMER.CREATE.KV_metainf-swarm", "$JS.API.STREAM.PURGE.METAINF_REQUESTS",
            "$JS.API.STREAM.DELETE.METAINF_REPLIES", "$JS.API.STREAM.MSG.DELETE.METAINF_REQUESTS",
            "$JS.API.STREAM.DELETE.KV_metainf-consumers",
        )  # fmt: skip
        assert await refused(url.format("queue:queuesecret"), *others) == list(others)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_the_queues_user_may_do_what_workers_and_agents_do(url: str) -> None:
    for name in ("nats", "torch", "transformers", "grpc", "aiohttp"):
        pytest.importorskip(name, reason="needs the extras swarm and measure")
    from metainf.api import queueing
    from metainf.swarm.broker.agent import Agent
    from metainf.swarm.host.queued import Desk
    from metainf.swarm.host.watching import Watch, Watched
    from metainf.swarm.words import Demand

    async def story() -> None:
        queue, looks = url.format("queue:queuesecret"), url.format("reader:readersecret")
        async with Agent(queue, "agent") as agent:
            desk = Desk(agent)
            assert await desk.groups() == []
            async with worker_at(queue) as worker:
                while not (groups := await desk.groups()):
                    await asyncio.sleep(0.02)
                assert [(each.name, each.slots) for each in groups] == [("g", 2)]
                assert (await agent.ask(job_of(1))).body == "cba"
                await agent.stream.publish("dead.g", job_of(2).canonical().encode())
                watch = Watch(Watched(looks, queue=looks))
                seen = (await watch.overview(Demand(prompt_tokens=1, new_tokens=1))).queue
                await watch.close()
                assert seen is not None and (seen.dead, seen.lost) == (1, None)
                (letter,) = await queueing.dead(queue)
                assert (await queueing.send_again(queue, letter.seq)).body == "cba"
                assert await queueing.dead(queue) == [] and worker.consumer.done == 2
            desk._read_s = 0.0
            assert await desk.groups() == [], "a worker that leaves takes its word back"

    asyncio.run(asyncio.wait_for(story(), 60))


def test_three_servers_keep_the_queue_while_one_is_gone(tmp_path: Path) -> None:
    for name in ("nats", "torch", "transformers", "grpc", "aiohttp"):
        pytest.importorskip(name, reason="needs the extras swarm and measure")
    from metainf.swarm.broker.agent import Agent
    from metainf.swarm.broker.streams import BrokerLost

    async def story(queue: str, servers: list[Any]) -> None:
        for _ in range(50):  # until they have chosen who leads
            try:
                agent = await Agent(queue, "agent").__aenter__()
                break
            except BrokerLost:
                await asyncio.sleep(0.2)
        async with worker_at(queue):
            assert (await agent.ask(job_of(1))).body == "cba"
            for stream in ("METAINF_REQUESTS", "METAINF_REPLIES", "METAINF_DEAD", "KV_metainf-consumers"):
                told = await agent.stream.stream_info(stream)
                assert told.config.num_replicas == 3 and len(told.cluster.replicas) == 2
            servers[0].kill()
            assert (await agent.ask(job_of(2))).body == "cba"
        await agent.__aexit__()

    with running(tmp_path, 3) as (ports, servers):
        named = ",".join(f"tls://queue:queuesecret@127.0.0.1:{port}" for port in ports)
        asyncio.run(asyncio.wait_for(story(f"{named}?ca={tmp_path / 'ca.crt'}", servers), 60))
