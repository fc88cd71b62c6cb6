"""A swarm on Kubernetes (apps/v1, policy/v1, v1), for `kubectl apply -f`."""

from typing import Any

from metainf.exports import swarm
from metainf.exports.text import yaml_text

HEAD = """\
# A swarm: NATS, nodes, its door (OpenAI's API), the queue's agent and workers, the dashboard.
# Before: a secret NAME-tls with ca.crt, tls.crt and tls.key (for *.NAME-nats), a secret NAME-passwords with
# node, reader, queue and api (letters and digits), and a claim NAME-models that many may read, with weights.
# The dashboard listens inside its pod only: kubectl port-forward deploy/NAME-dashboard 8321
"""
LOADING_S, PROBE_S = 1800, 10
USER = 10001


class _Written:
    """The parts of one deployment."""

    def __init__(self, made: swarm.SwarmDeployment) -> None:
        self.made, self.nats = made, f"{made.name}-nats"
        self.servers = [f"{self.nats}-{at}.{self.nats}" for at in range(made.servers)]

    def labels(self, part: str) -> dict[str, str]:
        return {"app.kubernetes.io/name": self.made.name, "app.kubernetes.io/component": part}

    def head(self, kind: str, part: str, version: str = "v1") -> dict[str, Any]:
        name = f"{self.made.name}-{part}"
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": self.labels(part)}}

    def secret(self, name: str, key: str) -> dict[str, Any]:
        return {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": f"{self.made.name}-passwords", "key": key}},
        }

    def join(self, user: str) -> str:
        """The address for one user; Kubernetes fills the password in."""
        return swarm.join_url(user, self.servers, f"$({user.upper()}_PASSWORD)")

    def service(self, part: str, ports: dict[str, int], headless: bool = False) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "selector": self.labels(part),
            "ports": [{"name": name, "port": port, "targetPort": port} for name, port in ports.items()],
        }
        if headless:
            spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
        return self.head("Service", part) | {"spec": spec}

    def budget(self, part: str) -> dict[str, Any]:
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": self.labels(part)}}
        return self.head("PodDisruptionBudget", part, "policy/v1") | {"spec": spec}

    def set(self, part: str, replicas: int, pod: dict[str, Any], claim: str) -> dict[str, Any]:
        """A StatefulSet whose pods keep a volume and a name each."""
        kept = {
            "metadata": {"name": claim},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": f"{self.made.storage_gib}Gi"}},
            },
        }
        return self.head("StatefulSet", part, "apps/v1") | {
            "spec": {
                "replicas": replicas,
                "serviceName": f"{self.made.name}-{part}",
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": self.labels(part)},
                "template": {"metadata": {"labels": self.labels(part)}, "spec": pod},
                "volumeClaimTemplates": [kept],
            }
        }

    def deployment(self, part: str, pod: dict[str, Any], replicas: int = 1) -> dict[str, Any]:
        return self.head("Deployment", part, "apps/v1") | {
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": self.labels(part)},
                "template": {"metadata": {"labels": self.labels(part)}, "spec": pod},
            }
        }

    def pod(self, container: dict[str, Any], volumes: list[dict[str, Any]]) -> dict[str, Any]:
        """Without root, without rights, with a file system that cannot be written."""
        secret: dict[str, Any] = {"secretName": f"{self.made.name}-tls", "defaultMode": 0o440}
        if container["name"] != "nats":  # the others need no key of the servers
            secret |= {"items": [{"key": "ca.crt", "path": "ca.crt"}]}
        tls = {"name": "tls", "secret": secret}
        safe = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = [{"name": "tls", "mountPath": swarm.TLS, "readOnly": True}, *container.pop("volumeMounts")]
        return {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": swarm.GRACE_S,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",  # keys stay readable by their owner only
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container | {"securityContext": safe, "volumeMounts": mounts}],
            "volumes": [tls, *volumes],
        }  # fmt: skip

    def ours(self, name: str, words: list[str], more: dict[str, Any]) -> dict[str, Any]:
        """A container of MetaInf. `$(NAME)` in its words is filled in by Kubernetes."""
        scratch = {"name": "scratch", "mountPath": "/tmp"}
        mounts = [
            {"name": "models", "mountPath": swarm.MODELS, "readOnly": True},
            scratch,
            *more.pop("volumeMounts", []),
        ]
        env = [{"name": "HOME", "value": "/tmp"}, *more.pop("env", [])]
        made = {"name": name, "image": self.made.image, "command": words[:1], "args": words[1:], "env": env}
        return made | more | {"volumeMounts": mounts}

    def ours_volumes(self) -> list[dict[str, Any]]:
        claim = {"claimName": f"{self.made.name}-models", "readOnly": True}
        return [{"name": "models", "persistentVolumeClaim": claim}, {"name": "scratch", "emptyDir": {}}]


def kubernetes(made: swarm.SwarmDeployment) -> str:
    """The manifest."""
    own = _Written(made)
    conf = own.head("ConfigMap", "nats") | {"data": {"nats.conf": swarm.nats_conf(own.servers)}}
    documents = [
        conf, own.service("nats", {"clients": swarm.CLIENTS, "routes": swarm.ROUTES}, headless=True),
        own.budget("nats"),
        own.set("nats", made.servers, _nats(own), "data"),
        own.service("node", {"metrics": swarm.METRICS}, headless=True), own.budget("node"),
        own.set("node", made.nodes, _node(own), "state"),
        own.service("door", {"http": swarm.DOOR}), own.deployment("door", _door(own)), *_queue(own),
        own.deployment("dashboard", _dashboard(own)),
    ]  # fmt: skip
    return HEAD.replace("NAME", made.name) + yaml_text(*documents)


def _nats(own: _Written) -> dict[str, Any]:
    name = {"name": "SERVER_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    container = {
        "name": "nats",
        "image": own.made.nats_image,
        "args": ["-c", "/etc/nats/nats.conf"],
        "env": [
            name,
            *(own.secret(f"{user.upper()}_PASSWORD", user) for user in ("node", "reader", "queue")),
        ],
        "ports": [
            {"name": "clients", "containerPort": swarm.CLIENTS},
            {"name": "routes", "containerPort": swarm.ROUTES},
        ],
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/nats"}, {"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": "clients"}, "periodSeconds": PROBE_S},
    }
    return own.pod(container, [{"name": "conf", "configMap": {"name": own.nats}}])


def _node(own: _Written) -> dict[str, Any]:
    name = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    words = swarm.node_words(own.made, own.join("node"), f"$(POD_NAME).{own.made.name}-node")
    alive = {"httpGet": {"path": "/metrics", "port": "metrics"}, "periodSeconds": PROBE_S}
    memory = {"memory": f"{own.made.memory_gib + 2}Gi"}
    more = {
        "env": [name, own.secret("NODE_PASSWORD", "node")],
        "ports": [{"name": "metrics", "containerPort": swarm.METRICS}],
        "volumeMounts": [{"name": "state", "mountPath": swarm.STATE}],
        "resources": {"requests": memory, "limits": memory},
        "startupProbe": alive | {"failureThreshold": LOADING_S // PROBE_S},
        "livenessProbe": alive,
    }
    return own.pod(own.ours("node", words, more), own.ours_volumes())


def _door(own: _Written) -> dict[str, Any]:
    env = [own.secret("NODE_PASSWORD", "node"), own.secret("METAINF_SWARM_API_KEY", "api")]
    more = {"env": env} | _asked(swarm.DOOR, "/ready")
    return own.pod(own.ours("door", swarm.door_words(own.made, own.join("node")), more), own.ours_volumes())


def _queue(own: _Written) -> list[dict[str, Any]]:
    """The queue's agent and workers, if any."""
    if not own.made.workers:
        return []
    env = [own.secret("QUEUE_PASSWORD", "queue"), own.secret("METAINF_SWARM_API_KEY", "api")]
    more = {"env": env} | _asked(swarm.AGENT, "/health")
    agent = own.pod(own.ours("agent", swarm.agent_words(own.join("queue")), more), own.ours_volumes())
    words = swarm.worker_words(own.made, own.join("node"), own.join("queue"))
    told = {"env": [own.secret("NODE_PASSWORD", "node"), own.secret("QUEUE_PASSWORD", "queue")]}
    worker = own.pod(own.ours("worker", words, told), own.ours_volumes())
    return [
        own.service("agent", {"http": swarm.AGENT}), own.deployment("agent", agent),
        own.deployment("worker", worker, own.made.workers),
    ]  # fmt: skip


def _asked(port: int, ready: str) -> dict[str, Any]:
    """The port of what answers OpenAI's API, and how Kubernetes sees that it does."""
    return {
        "ports": [{"name": "http", "containerPort": port}],
        "readinessProbe": {"httpGet": {"path": ready, "port": "http"}, "periodSeconds": PROBE_S},
        "livenessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": PROBE_S},
    }


def _dashboard(own: _Written) -> dict[str, Any]:
    looks = own.join("reader")
    words = swarm.dashboard_words(looks, "127.0.0.1", looks if own.made.workers else None)
    more = {
        "env": [own.secret("READER_PASSWORD", "reader")],
        "ports": [{"name": "http", "containerPort": swarm.DASHBOARD}],
        "volumeMounts": [{"name": "state", "mountPath": swarm.STATE}],
    }
    volumes = [*own.ours_volumes(), {"name": "state", "emptyDir": {}}]
    return own.pod(own.ours("dashboard", words, more), volumes)
