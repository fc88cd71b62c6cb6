"""A whole swarm as files: read by parsers of their specifications, and NATS' part by NATS itself."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metainf.api.exporting import swarm_manifest
from metainf.cli.app import app
from metainf.domain import BadInput, UnknownName
from metainf.exports.swarm import USERS, SwarmDeployment

yaml = pytest.importorskip("yaml", reason="needs the extra yaml")
TOLD = {"image": "registry.example/metainf:1", "weights": "Llama-3.2-1B-Instruct"}
SIZES = [
    {},
    {"nodes": 1, "servers": 1, "workers": 0},
    {"nodes": 12, "servers": 5, "workers": 4, "name": "other"},
]
sizes = pytest.mark.parametrize("size", SIZES, ids=["usual", "least", "large"])


@sizes
def test_compose_is_read_by_a_parser_of_its_specification(size: dict[str, Any], tmp_path: Path) -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="needs the extra dev")
    text = swarm_manifest("compose", TOLD | size)
    compose_spec.PyCompose.from_yaml(text).to_spec()
    made, found = SwarmDeployment.of(TOLD | size), yaml.safe_load(text)
    services = found["services"]
    queue = made.workers + 1 if made.workers else 0
    assert len(services) == made.nodes + made.servers + queue + 2
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
                for word in ("NODE_PASSWORD", "READER_PASSWORD", "QUEUE_PASSWORD", "POD_NAME")
                if word in text
            }
            assert used <= {one["name"] for one in container["env"]}
    sets = {name: each["spec"] for (kind, name), each in named.items() if kind == "StatefulSet"}
    assert sets[f"{made.name}-node"]["replicas"] == made.nodes
    assert sets[f"{made.name}-nats"]["replicas"] == made.servers
    assert (("Service", f"{made.name}-agent") in named) == (made.workers > 0)
    if made.workers:
        assert named["Deployment", f"{made.name}-worker"]["spec"]["replicas"] == made.workers
    assert all(("Service", spec["serviceName"]) in named for spec in sets.values())


def commands(format: str, **size: Any) -> list[list[str]]:
    """What the containers of metainf run."""
    found: list[list[str]] = []
    for document in yaml.safe_load_all(swarm_manifest(format, TOLD | size)):
        if format == "compose":
            services = document["services"].values()
            found += [each["entrypoint"] + each["command"] for each in services if "entrypoint" in each]
        elif document["kind"] in ("StatefulSet", "Deployment"):
            (one,) = document["spec"]["template"]["spec"]["containers"]
            found += [one["command"] + one["args"]] if "command" in one else []
    return found


formats = pytest.mark.parametrize("format", ["compose", "kubernetes"])


@formats
def test_the_commands_are_those_of_the_command_line(format: str) -> None:
    """Each command that a container runs is one that metainf takes, with these very options."""
    found = commands(format)
    told = {" ".join(each[: 3 if each[1] == "swarm" else 2]) for each in found}
    assert told == {"metainf node", "metainf swarm serve", "metainf swarm work", "metainf serve"}
    for command in found:
        ran = CliRunner().invoke(app, [*command[1:], "--help"])
        assert ran.exit_code == 0, ran.output
        known = ran.output
        assert all(word in known for word in command if word.startswith("--") and len(word) < 18), command


@formats
@pytest.mark.parametrize("servers", [1, 3, 5])
def test_all_join_all_servers_under_the_user_of_their_part(format: str, servers: int) -> None:
    pytest.importorskip("nats", reason="needs the extra swarm")
    from metainf.swarm.broker.streams import replicas_of
    from metainf.swarm.net.servers import Servers

    users: dict[tuple[str, str], set[str]] = {}
    for command in commands(format, servers=servers):
        part = " ".join(command[1 : 3 if command[1] == "swarm" else 2])
        for option in ("--join", "--queue", "--swarm"):
            if option in command:
                url = command[command.index(option) + 1]
                told = Servers.parse(url)
                assert len(set(told.urls)) == servers and told.files == {"ca": "/etc/metainf/tls/ca.crt"}
                assert replicas_of(url) == (3 if servers >= 3 else 1)
                found = {each.removeprefix("tls://").partition(":")[0] for each in told.urls}
                users.setdefault((part, option), set()).update(found)
    assert users == {
        ("node", "--join"): {"node"},
        ("swarm serve", "--join"): {"node"},
        ("swarm serve", "--queue"): {"queue"},
        ("swarm work", "--join"): {"node"},
        ("swarm work", "--queue"): {"queue"},
        ("serve", "--swarm"): {"reader"},
        ("serve", "--queue"): {"reader"},
    }


def test_without_workers_there_is_no_queue() -> None:
    for format in ("compose", "kubernetes"):
        assert not [each for each in commands(format, workers=0) if "--queue" in each]


def test_the_dashboard_shows_the_reputations_that_the_door_keeps() -> None:
    services = yaml.safe_load(swarm_manifest("compose", TOLD))["services"]
    written, read = (
        command[command.index("--reputation") + 1]
        for command in (services["door"]["command"], services["dashboard"]["command"])
    )
    mounted = {
        name: dict(each.split(":")[:2] for each in services[name]["volumes"])
        for name in ("door", "dashboard")
    }
    assert written.removeprefix(mounted["door"]["door"]) == read.removeprefix(mounted["dashboard"]["door"])
    assert services["dashboard"]["depends_on"]["door"] == {"condition": "service_healthy"}


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
