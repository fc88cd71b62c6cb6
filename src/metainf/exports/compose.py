"""Docker Compose (compose-spec, with `configs.content`: Docker Compose 2.23.1 or newer)."""

from typing import Any

from metainf.exports.deployment import MODELS, Deployment, comment
from metainf.exports.text import words, yaml_text


def compose(made: Deployment) -> str:
    """A compose.yaml with one service."""
    program, *rest = made.argv
    service: dict[str, Any] = {
        "image": made.image,
        "entrypoint": [program],
        "command": [word.replace("$", "$$") for word in words(rest)],
        "working_dir": MODELS,
        "environment": {"HF_HOME": f"{MODELS}/hub", "HF_TOKEN": "${HF_TOKEN:-}"}
        | {key: value.replace("$", "$$") for key, value in made.env.items()},
        "ports": [f"{made.port}:{made.port}"],
        "volumes": [f"./models:{MODELS}"],
        "ipc": "host",
        "restart": "unless-stopped",
    } | _devices(made)
    document: dict[str, Any] = {"name": made.name, "services": {"engine": service}}
    if made.files:
        names = {name: f"file-{place}" for place, name in enumerate(made.files)}
        service["configs"] = [{"source": names[name], "target": f"{MODELS}/{name}"} for name in made.files]
        document["configs"] = {
            names[name]: {"content": text.replace("$", "$$")} for name, text in made.files.items()
        }
    return comment(made, "docker compose up") + yaml_text(document)


def _devices(made: Deployment) -> dict[str, Any]:
    if made.maker == "nvidia":
        wanted = {"driver": "nvidia", "count": made.devices, "capabilities": ["gpu"]}
        return {"deploy": {"resources": {"reservations": {"devices": [wanted]}}}}
    if made.maker == "amd":
        return {
            "devices": ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"],
            "group_add": ["video"],
            "security_opt": ["seccomp:unconfined"],
        }
    return {"devices": ["/dev/dri:/dev/dri"]} if made.maker == "intel" else {}
