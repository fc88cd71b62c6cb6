"""A swarm on one machine, or a rehearsal of one: Docker Compose (2.23.1 or newer, for `configs.content`)."""

from typing import Any

from metainf.exports import swarm
from metainf.exports.text import yaml_text

HEAD = """\
# A swarm: NATS, nodes, its door (OpenAI's API), the queue's agent and workers, the dashboard.
# Before: ./tls with ca.crt, tls.crt and tls.key (for the names nats-0, nats-1, ...), ./models with weights,
# and a file .env with NODE_PASSWORD, READER_PASSWORD, QUEUE_PASSWORD and METAINF_SWARM_API_KEY (letters and
# digits). Containers run without rights, so they read only what everybody may: ./tls/ca.crt, ./models.
# docker compose run --rm --no-deps dashboard keys add me --scope read --store /state/records.sqlite
# docker compose up
"""
SEEN = "/reputations"
"""Where the dashboard finds the door's volume."""
REPUTATIONS = "reputations.sqlite"
KEY = {"METAINF_SWARM_API_KEY": "${METAINF_SWARM_API_KEY:?a key of your own}"}


def compose(made: swarm.SwarmDeployment) -> str:
    """The compose.yaml."""
    servers = [f"nats-{at}" for at in range(made.servers)]
    services: dict[str, Any] = {name: _server(made, name) for name in servers}
    join, looks, queue = (
        swarm.join_url(user, servers, f"${{{user.upper()}_PASSWORD}}") for user in swarm.USERS
    )
    after = {name: {"condition": "service_started"} for name in servers}
    for at in range(made.nodes):
        name = f"node-{at}"
        services[name] = _ours(made, swarm.node_words(made, join, name), [f"{name}:{swarm.STATE}"], after)
    kept = f"{swarm.STATE}/{REPUTATIONS}"
    services["door"] = _ours(made, swarm.door_words(made, join, kept), [f"door:{swarm.STATE}"], after)
    services["door"] |= _open(swarm.DOOR)
    if made.workers:
        services["agent"] = _ours(made, swarm.agent_words(queue), [], after) | _open(swarm.AGENT)
    for at in range(made.workers):
        services[f"worker-{at}"] = _ours(made, swarm.worker_words(made, join, queue), [], after)
    shown = swarm.dashboard_words(looks, "0.0.0.0", looks if made.workers else None, f"{SEEN}/{REPUTATIONS}")
    services["dashboard"] = _ours(
        made,
        shown,
        [f"dashboard:{swarm.STATE}", f"door:{SEEN}"],
        after | {"door": {"condition": "service_healthy"}},  # it has made its file by then
    ) | {"ports": [f"127.0.0.1:{swarm.DASHBOARD}:{swarm.DASHBOARD}"]}
    volumes = [*servers, *(f"node-{at}" for at in range(made.nodes)), "door", "dashboard"]
    document = {
        "name": made.name,
        "services": services,
        "configs": {"nats": {"content": swarm.nats_conf(servers).replace("$", "$$")}},
        "volumes": {name: {} for name in volumes},
    }
    return HEAD + yaml_text(document)


def _open(port: int) -> dict[str, Any]:
    """What callers reach: its key, its port, and how Docker sees that it answers."""
    asks = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/health', timeout=5)"
    return {
        "environment": {"HOME": "/tmp", **KEY},
        "ports": [f"{port}:{port}"],
        "healthcheck": {"test": ["CMD", "python", "-c", asks], "interval": "10s", "start_period": "300s"},
    }


def _server(made: swarm.SwarmDeployment, name: str) -> dict[str, Any]:
    passwords = {f"{user}_PASSWORD": f"${{{user}_PASSWORD:?}}" for user in ("NODE", "READER", "QUEUE")}
    return {
        "image": made.nats_image,
        "command": ["-c", "/etc/nats/nats.conf"],
        "environment": {"SERVER_NAME": name, **passwords},
        "configs": [{"source": "nats", "target": "/etc/nats/nats.conf"}],
        "volumes": [f"./tls:{swarm.TLS}:ro", f"{name}:/data"],
        "restart": "unless-stopped",
    }


def _ours(
    made: swarm.SwarmDeployment, words: list[str], kept: list[str], after: dict[str, Any]
) -> dict[str, Any]:
    return {
        "image": made.image,
        "entrypoint": [words[0]],
        "command": words[1:],
        "volumes": [f"./tls/ca.crt:{swarm.TLS}/ca.crt:ro", f"./models:{swarm.MODELS}:ro", *kept],
        "depends_on": after,
        "read_only": True,
        "tmpfs": ["/tmp"],
        "environment": {"HOME": "/tmp"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": f"{swarm.GRACE_S}s",
        "restart": "unless-stopped",
    }
