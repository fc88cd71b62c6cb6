"""SkyPilot: a task that also serves (`sky launch`, `sky serve up`)."""

import shlex
from typing import Any

from metainf.domain import NotSupported
from metainf.exports.deployment import Deployment, comment
from metainf.exports.text import yaml_text

ACCELERATORS = {
    "t4": "T4", "a10": "A10", "a10g": "A10G", "a30": "A30", "a40": "A40", "l4": "L4", "l40": "L40",
    "l40s": "L40S", "a100-40-pcie": "A100", "a100-40-sxm": "A100", "a100-80-pcie": "A100-80GB",
    "a100-80-sxm": "A100-80GB", "h100-pcie": "H100", "h100-sxm": "H100", "h100-nvl": "H100",
    "h200-sxm": "H200", "gh200-96": "GH200", "b200-sxm": "B200", "b300-sxm": "B300", "p4": "P4",
    "p100-pcie": "P100", "v100-sxm2-16": "V100", "v100-pcie-16": "V100", "v100-sxm2-32": "V100-32GB",
    "rtx-3090": "RTX3090", "rtx-4090": "RTX4090", "rtx-5090": "RTX5090", "rtx-a6000": "RTXA6000",
    "rtx-6000-ada": "RTX6000-Ada", "mi300x": "MI300X", "mi325x": "MI325X",
}  # fmt: skip
"""The names of SkyPilot's own catalogue of accelerators."""
READY_S = 3600


def skypilot(made: Deployment) -> str:
    """A task. NotSupported for a device that SkyPilot has no name for."""
    accelerator = ACCELERATORS.get(made.device)
    if accelerator is None:
        known = ", ".join(sorted(set(ACCELERATORS.values())))
        raise NotSupported(f"SkyPilot has no name for {made.device}; it rents {known}")
    resources: dict[str, Any] = {
        "accelerators": {accelerator: made.devices},
        "image_id": f"docker:{made.image}",
        "disk_size": made.storage_gib + 100,
        "ports": [made.port],
    }
    task = {
        "name": made.name,
        "resources": resources,
        "envs": {"HF_TOKEN": "", **made.env},
        "run": run_script(made),
        "service": {
            "readiness_probe": {"path": "/health", "initial_delay_seconds": READY_S},
            "replicas": 1,
        },
    }
    return comment(made, f"sky launch this.yaml, or sky serve up this.yaml; port {made.port}") + yaml_text(
        task
    )


def run_script(made: Deployment) -> str:
    """The files that the engine reads, and its command, for a POSIX shell."""
    lines = [f"printf %s {shlex.quote(text)} > {shlex.quote(name)}" for name, text in made.files.items()]
    return "\n".join([*lines, f"exec {shlex.join(made.argv)}"]) + "\n"
