"""A whole swarm as files of Docker Compose and Kubernetes: a cluster of NATS, nodes, the door, the queue's
agent and workers, the dashboard.

Pure: a `SwarmDeployment` in, text out. There is no published image of MetaInf; whoever deploys names theirs.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from metainf.domain import Frozen

NATS_IMAGE = "nats:2.11-alpine"
CLIENTS, ROUTES, MONITOR, METRICS = 4222, 6222, 8222, 9100
DOOR, AGENT, DASHBOARD = 8323, 8324, 8321
USERS = ("node", "reader", "queue")
"""Nodes and callers of the swarm; who only looks; agents and consumers of the queue."""
TLS = "/etc/metainf/tls"
MODELS, STATE = "/models", "/state"
GRACE_S = 60
PATH = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
ALLOWED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "node": (
        ("$KV.metainf-swarm.>", "$JS.API.INFO", "$JS.API.STREAM.*.KV_metainf-swarm",
         "$JS.API.CONSUMER.*.KV_metainf-swarm", "$JS.API.CONSUMER.*.KV_metainf-swarm.>",
         "$JS.API.DIRECT.GET.KV_metainf-swarm", "$JS.API.DIRECT.GET.KV_metainf-swarm.>", "$JS.FC.>",
         "$JS.ACK.>"),
        ("_INBOX.>",),
    ),
    "reader": (
        ("$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.KV_metainf-swarm",
         "$JS.API.CONSUMER.*.KV_metainf-swarm", "$JS.API.CONSUMER.*.KV_metainf-swarm.>", "$JS.FC.>"),
        ("_INBOX.>",),
    ),
    "queue": (
        ("req.>", "rep.>", "dead.>", "bell.>", "$KV.metainf-consumers.>", "$JS.API.INFO", "$JS.ACK.>",
         "$JS.FC.>",
         *(f"$JS.API.{call}.{stream}"
           for stream in ("METAINF_REQUESTS", "METAINF_REPLIES", "METAINF_DEAD", "KV_metainf-consumers")
           for call in ("STREAM.INFO", "STREAM.CREATE", "STREAM.MSG.GET", "DIRECT.GET", "CONSUMER.*")),
         *(f"$JS.API.{call}.>"
           for stream in ("METAINF_REQUESTS", "METAINF_REPLIES", "KV_metainf-consumers")
           for call in (f"CONSUMER.*.{stream}", f"CONSUMER.DURABLE.CREATE.{stream}",
                        f"CONSUMER.MSG.NEXT.{stream}")),
         "$JS.API.DIRECT.GET.METAINF_REPLIES.>", "$JS.API.STREAM.MSG.DELETE.METAINF_DEAD"),
        ("_INBOX.>", "bell.>"),
    ),
}  # fmt: skip
"""What each user may publish and hear. The reader may say CREATE because joining a directory does: a bucket
that is there stays as it is, and it can put nothing into it. The queue's user takes letters off the dead ones
(MSG.DELETE), and has no part in the directory."""


class SwarmDeployment(Frozen):
    """What is deployed. `image` has metainf with the extras swarm, serve and traces; `weights` is the folder
    or file of the model under `/models`, the same on every node. Without `workers` there is no queue: no
    agent, and the dashboard shows none."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "metainf-swarm"
    image: Annotated[str, Field(min_length=1, max_length=300)]
    weights: Annotated[str, Field(pattern=PATH, max_length=200)]
    nodes: PositiveInt = 3
    servers: Annotated[int, Field(ge=1, le=5)] = 3
    workers: NonNegativeInt = 1
    nats_image: str = NATS_IMAGE
    memory_gib: PositiveInt = 8
    storage_gib: PositiveInt = 20

    @property
    def model(self) -> str:
        """The weights inside a container."""
        return f"{MODELS}/{self.weights}"


def nats_conf(servers: list[str], tls: str = TLS, store: str = "/data") -> str:
    """The configuration of one server of the cluster: TLS for clients and routes, one account, three users
    whose passwords come from the environment (NODE_PASSWORD, READER_PASSWORD, QUEUE_PASSWORD)."""
    pair = f'cert_file: "{tls}/tls.crt", key_file: "{tls}/tls.key", ca_file: "{tls}/ca.crt"'
    lines = [
        "server_name: $SERVER_NAME",
        f"port: {CLIENTS}",
        f"http: 127.0.0.1:{MONITOR}",
        "max_payload: 1MB",
        "max_connections: 10000",
        f"tls {{ {pair} }}",
        f'jetstream {{ store_dir: "{store}", max_mem: 256M, max_file: 8G }}',
    ]
    if len(servers) > 1:
        routes = ", ".join(f'"nats://{each}:{ROUTES}"' for each in servers)
        lines.append(
            f"cluster {{ name: metainf, port: {ROUTES}, no_advertise: true, tls {{ {pair}, verify: true }}, "
            f"routes: [{routes}] }}"
        )  # members are told all names, which certificates have: servers need not tell them addresses
    lines += ["accounts {", "  SYS { users: [] }", "  METAINF {", "    jetstream: enabled", "    users: ["]
    for user in USERS:
        publish, subscribe = ALLOWED[user]
        lines += [
            f"      {{ user: {user}, password: ${user.upper()}_PASSWORD, permissions: {{",
            f"          publish: [{_quoted(publish)}], subscribe: [{_quoted(subscribe)}] }} }}",
        ]
    lines += ["    ]", "  }", "}", "system_account: SYS"]
    return "\n".join(lines) + "\n"


def join_url(user: str, hosts: Sequence[str], password: str) -> str:
    """The directory's (or broker's) address for one user, with all servers, so that any of them will do and
    three keep three copies; `password` is a reference to a variable."""
    servers = ",".join(f"tls://{user}:{password}@{host}:{CLIENTS}" for host in hosts)
    return f"{servers}?ca={TLS}/ca.crt"


def node_words(made: SwarmDeployment, join: str, public: str, region: str | None = None) -> list[str]:
    """The command of one node."""
    told = [
        "metainf", "node", "--join", join, "--model", made.model, "--host", "0.0.0.0",
        "--public-address", public, "--identity", f"{STATE}/identity", "--memory-gib", str(made.memory_gib),
        "--metrics-host", "0.0.0.0", "--metrics-port", str(METRICS), "--grace", str(GRACE_S - 15), "--json",
    ]  # fmt: skip
    return told if region is None else [*told, "--region", region]


def door_words(made: SwarmDeployment, join: str, reputation: str | None = None) -> list[str]:
    """The command of the door; its key comes from METAINF_SWARM_API_KEY."""
    told = ["metainf", "swarm", "serve", "--join", join, "--model", made.model, *_listening(DOOR)]
    return told if reputation is None else [*told, "--reputation", reputation]


def agent_words(queue: str) -> list[str]:
    """The command of the queue's agent, OpenAI's API too; its key comes from METAINF_SWARM_API_KEY."""
    return ["metainf", "swarm", "serve", "--queue", queue, *_listening(AGENT)]


def worker_words(made: SwarmDeployment, join: str, queue: str) -> list[str]:
    """The command of one worker: from the queue, through the swarm."""
    return ["metainf", "swarm", "work", "--queue", queue, "--join", join, "--model", made.model]


def dashboard_words(
    join: str, host: str, queue: str | None = None, reputation: str | None = None
) -> list[str]:
    """The command of the dashboard."""
    told = [
        "metainf", "serve", "--host", host, "--port", str(DASHBOARD), "--store", f"{STATE}/records.sqlite",
        "--swarm", join,
    ]  # fmt: skip
    told += [] if queue is None else ["--queue", queue]
    return told if reputation is None else [*told, "--reputation", reputation]


def _listening(port: int) -> list[str]:
    return ["--host", "0.0.0.0", "--port", str(port), "--grace", f"{GRACE_S - 15}s"]


def _quoted(subjects: tuple[str, ...]) -> str:
    return ", ".join(f'"{each}"' for each in subjects)
