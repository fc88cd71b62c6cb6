"""Kubernetes: a volume for weights, a deployment and a service (apps/v1, v1), for `kubectl apply -f`."""

from typing import Any

from metainf.exports.deployment import MODELS, Deployment, comment
from metainf.exports.text import words, yaml_text

RESOURCES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "gpu.intel.com/xe"}
"""The device plugins' names."""
LOADING_S = 3600
"""As long as weights may take to arrive before the engine counts as broken."""
PROBE_S = 10


def kubernetes(made: Deployment) -> str:
    """The manifest: PersistentVolumeClaim, ConfigMap where files are needed, Deployment, Service."""
    labels = {"app.kubernetes.io/name": made.name, "app.kubernetes.io/managed-by": "metainf"}

    def head(kind: str, version: str = "v1") -> dict[str, Any]:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": made.name, "labels": labels}}

    claim = head("PersistentVolumeClaim") | {
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{made.storage_gib}Gi"}},
        }
    }
    files = [head("ConfigMap") | {"data": dict(made.files)}] if made.files else []
    deployment = head("Deployment", "apps/v1") | {
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app.kubernetes.io/name": made.name}},
            "template": {"metadata": {"labels": labels}, "spec": _pod(made)},
        }
    }
    service = head("Service") | {
        "spec": {
            "selector": {"app.kubernetes.io/name": made.name},
            "ports": [{"name": "http", "port": made.port, "targetPort": "http"}],
        }
    }
    told = "kubectl apply -f this file; a secret huggingface with the key token opens gated models"
    return comment(made, told) + yaml_text(claim, *files, deployment, service)


def _pod(made: Deployment) -> dict[str, Any]:
    mounts = [{"name": "models", "mountPath": MODELS}, {"name": "shared-memory", "mountPath": "/dev/shm"}]
    mounts += [{"name": "files", "mountPath": f"{MODELS}/{name}", "subPath": name} for name in made.files]
    volumes: list[dict[str, Any]] = [
        {"name": "models", "persistentVolumeClaim": {"claimName": made.name}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    volumes += [{"name": "files", "configMap": {"name": made.name}}] if made.files else []
    token = {"secretKeyRef": {"name": "huggingface", "key": "token", "optional": True}}
    program, *rest = words(made.argv)
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": PROBE_S}
    container: dict[str, Any] = {
        "name": "engine",
        "image": made.image,
        "command": [program],
        "args": [word.replace("$(", "$$(") for word in rest],
        "workingDir": MODELS,
        "env": [
            {"name": "HF_HOME", "value": f"{MODELS}/hub"},
            {"name": "HF_TOKEN", "valueFrom": token},
            *({"name": name, "value": value} for name, value in made.env.items()),
        ],
        "ports": [{"name": "http", "containerPort": made.port}],
        "volumeMounts": mounts,
        "startupProbe": health | {"failureThreshold": LOADING_S // PROBE_S},
        "readinessProbe": health,
    }
    wanted = RESOURCES.get(made.maker)
    if wanted is not None:
        container["resources"] = {"limits": {wanted: str(made.devices)}}
    return {"containers": [container], "volumes": volumes}
