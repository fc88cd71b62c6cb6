"""A swarm on one machine, or a rehearsal of one: Docker Compose (2.23.1 or newer, for `configs.content`)."""

from typing import Any

from metainf.exports import swarm
from metainf.exports.text import yaml_text

HEAD = """\
# A swarm: NATS, nodes, its door (OpenAI's API) and the dashboard.
# Before: ./tls with ca.crt, tls.crt and tls.key (for the names nats-0, nats-1, ...), ./models with weights,
# and a file .env with NODE_PASSWORD, READER_PASSWORD, QUEUE_PASSWORD and METAINF_SWARM_API_KEY (letters and
# digits). Containers run without rights, so they read only what everybody may: ./tls/ca.crt, ./models.
# docker compose run --rm dashboard keys add me --scope read --store /state/records.sqlite
# docker compose up
"""


def compose(made: swarm.SwarmDeployment) -> str:
    """The compose.yaml."""
    servers = [f"nats-{at}" for at in range(made.servers)]
    services: dict[str, Any] = {name: _server(made, name) for name in servers}
    join = swarm.join_url("node", servers[0], "${NODE_PASSWORD}")
    looks = swarm.join_url("reader", servers[0], "${READER_PASSWORD}")
    after = {name: {"condition": "service_started"} for name in servers}
    for at in range(made.nodes):
        name = f"node-{at}"
        services[name] = _ours(made, swarm.node_words(made, join, name), [f"{name}:{swarm.STATE}"], after)
    services["door"] = _ours(made, swarm.door_words(made, join), [], after) | {
        "environment": {"METAINF_SWARM_API_KEY": "${METAINF_SWARM_API_KEY:?a key of your own}"},
        "ports": [f"{swarm.DOOR}:{swarm.DOOR}"],
    }
    services["dashboard"] = _ours(
        made, swarm.dashboard_words(looks, "0.0.0.0"), [f"dashboard:{swarm.STATE}"], after
    ) | {"ports": [f"127.0.0.1:{swarm.DASHBOARD}:{swarm.DASHBOARD}"]}
    kept = [*servers, *(f"node-{at}" for at in range(made.nodes)), "dashboard"]
    document = {
        "name": made.name,
        "services": services,
        "configs": {"nats": {"content": swarm.nats_conf(servers).replace("$", "$$")}},
        "volumes": {name: {} for name in kept},
    }
    return HEAD + yaml_text(document)


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
