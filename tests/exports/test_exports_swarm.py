"""A whole swarm as files: read by parsers of their specifications, and NATS' part by NATS itself."""

import asyncio
import datetime
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metainf.api.exporting import swarm_manifest
from metainf.cli.app import app
from metainf.domain import BadInput, MissingExtra, UnknownName
from metainf.exports.swarm import USERS, SwarmDeployment, nats_conf

yaml = pytest.importorskip("yaml", reason="needs the extra yaml")
TOLD = {"image": "registry.example/metainf:1", "weights": "Llama-3.2-1B-Instruct"}
SIZES = [{}, {"nodes": 1, "servers": 1}, {"nodes": 12, "servers": 5, "name": "other"}]
sizes = pytest.mark.parametrize("size", SIZES, ids=["usual", "least", "large"])


@sizes
def test_compose_is_read_by_a_parser_of_its_specification(size: dict[str, Any], tmp_path: Path) -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="needs the extra dev")
    text = swarm_manifest("compose", TOLD | size)
    compose_spec.PyCompose.from_yaml(text).to_spec()
    made, found = SwarmDeployment.of(TOLD | size), yaml.safe_load(text)
    services = found["services"]
    assert len(services) == made.nodes + made.servers + 2
    for name, service in services.items():
        volumes = {each.split(":")[0] for each in service["volumes"]}
        assert {each for each in volumes if not each.startswith("./")} <= set(found["volumes"])
        assert name.startswith("nats") or (service["read_only"] and service["cap_drop"] == ["ALL"])
    assert services["dashboard"]["ports"] == ["127.0.0.1:8321:8321"]
    assert [line for line in text.splitlines() if "PASSWORD" in line and "PASSWORD=" in line] == []
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        (tmp_path / "compose.yaml").write_text(text, encoding="utf-8")
        secrets = {f"{each.upper()}_PASSWORD": "x" for each in USERS} | {"METAINF_SWARM_API_KEY": "k"}
        subprocess.run(
            ["docker", "compose", "-f", tmp_path / "compose.yaml", "config"], check=True, env=secrets
        )


@sizes
def test_kubernetes_keeps_to_the_api_s_own_schemas(size: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs the extra dev")
    made = SwarmDeployment.of(TOLD | size)
    documents = list(yaml.safe_load_all(swarm_manifest("kubernetes", TOLD | size)))
    for document in documents:
        validate.validate(document, validate.latest_version(), strict=True)
    named = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    assert len(named) == len(documents)
    for kind in ("StatefulSet", "Deployment"):
        for each in (one for (found, _), one in named.items() if found == kind):
            pod = each["spec"]["template"]
            assert each["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
            (container,) = pod["spec"]["containers"]
            claims = {one["metadata"]["name"] for one in each["spec"].get("volumeClaimTemplates", [])}
            volumes = {one["name"] for one in pod["spec"]["volumes"]} | claims
            assert {one["name"] for one in container["volumeMounts"]} <= volumes
            assert container["securityContext"]["readOnlyRootFilesystem"]
            used = {
                word
                for text in container.get("args", [])
                for word in ("NODE_PASSWORD", "POD_NAME")
                if word in text
            }
            assert used <= {one["name"] for one in container["env"]}
    sets = {name: each["spec"] for (kind, name), each in named.items() if kind == "StatefulSet"}
    assert sets[f"{made.name}-node"]["replicas"] == made.nodes
    assert sets[f"{made.name}-nats"]["replicas"] == made.servers
    assert all(("Service", spec["serviceName"]) in named for spec in sets.values())


@pytest.mark.parametrize("format", ["compose", "kubernetes"])
def test_the_commands_are_those_of_the_command_line(format: str) -> None:
    """Each command that a container runs is one that metainf takes, with these very options."""
    commands: list[list[str]] = []
    for document in yaml.safe_load_all(swarm_manifest(format, TOLD)):
        if format == "compose":
            services = document["services"].values()
            commands += [each["entrypoint"] + each["command"] for each in services if "entrypoint" in each]
        elif document["kind"] in ("StatefulSet", "Deployment"):
            (one,) = document["spec"]["template"]["spec"]["containers"]
            commands += [one["command"] + one["args"]] if "command" in one else []
    assert {" ".join(each[:2]) for each in commands} == {"metainf node", "metainf swarm", "metainf serve"}
    for command in commands:
        ran = CliRunner().invoke(app, [*command[1:], "--help"])
        assert ran.exit_code == 0, ran.output
        known = ran.output
        assert all(word in known for word in command if word.startswith("--") and len(word) < 18), command


def test_what_cannot_be_deployed_is_said() -> None:
    with pytest.raises(UnknownName, match="manifest"):
        swarm_manifest("nomad", TOLD)
    for wrong in (
        {"weights": "../etc"},
        {"weights": "/etc/passwd"},
        {"name": "A b"},
        {"servers": 0},
        {"image": ""},
    ):
        with pytest.raises(BadInput):
            swarm_manifest("compose", TOLD | wrong)


# NATS reads its own part, and lets in whom it should


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


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with this configuration, at ports of this machine; `{}` stands for user and password."""
    certificates(tmp_path)
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, monitor = one.getsockname()[1], two.getsockname()[1]
    text = nats_conf(["one"], str(tmp_path), str(tmp_path / "data"))
    text = text.replace("4222", str(port)).replace("8222", str(monitor))
    (tmp_path / "nats.conf").write_text(text, encoding="utf-8")
    server = subprocess.Popen(
        [nats(), "-a", "127.0.0.1", "-c", tmp_path / "nats.conf", "-l", tmp_path / "log"], env=ENVIRONMENT
    )
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"tls://{{}}@127.0.0.1:{port}?ca={tmp_path / 'ca.crt'}"
    server.terminate()
    server.wait(10)


def test_users_may_do_their_part_and_no_more(url: str) -> None:
    pytest.importorskip("nats", reason="needs the extra swarm")
    from metainf.swarm.broker.agent import Agent
    from metainf.swarm.broker.consumer import Consumer
    from metainf.swarm.broker.words import Job
    from metainf.swarm.net.directory import DirectoryLost, joined

    async def handled(asked: Job, attempt: int) -> str:
        return asked.body[::-1]

    async def story() -> None:
        node = await joined(url.format("node:nodesecret"))
        await node.put("node.abc", b"1")
        reader = await joined(url.format("reader:readersecret"))
        assert await reader.records() == {"node.abc": b"1"}, "the reader reads"
        with pytest.raises(DirectoryLost):
            await reader.put("node.evil", b"2")
        assert await node.records() == {"node.abc": b"1"}, "and writes nothing"
        for wrong in ("node:wrong", "stranger:x"):
            with pytest.raises(DirectoryLost) as lost:
                await joined(url.format(wrong))
            assert "wrong" not in str(lost.value)
        queue = url.format("queue:queuesecret")
        now = time.time()
        job = Job(
            transaction="b2:" + "1" * 32, agent="agent", tenant="t", group="g", issued_s=now,
            deadline_s=now + 30, body="abc",
        )  # fmt: skip
        async with Agent(queue, "agent") as agent, Consumer(queue, "g", handled):
            assert (await agent.ask(job)).body == "cba"
        await node.close()
        await reader.close()

    asyncio.run(asyncio.wait_for(story(), 60))
