"""Ray Serve LLM: a Serve config with one LLMConfig (`serve run`, `serve deploy`). It runs vLLM alone."""

import json
from typing import Any

from metainf.domain import NotSupported
from metainf.exports.deployment import Deployment, comment
from metainf.exports.text import yaml_text

ACCELERATORS = {
    "t4": "T4", "a10g": "A10G", "l4": "L4", "l40s": "L40S", "a100-40-pcie": "A100", "a100-40-sxm": "A100",
    "a100-80-pcie": "A100", "a100-80-sxm": "A100", "h100-pcie": "H100", "h100-sxm": "H100",
    "h100-nvl": "H100", "h200-sxm": "H200", "h200-nvl": "H200", "h20-sxm": "H20", "b200-sxm": "B200",
    "b300-sxm": "B300", "gb200-nvl72": "GB200", "gb300-nvl72": "GB300", "rtx-pro-6000": "RTX-PRO-6000",
    "rtx-pro-6000-server": "RTX-PRO-6000", "v100-sxm2-16": "V100", "v100-sxm2-32": "V100",
    "v100-pcie-16": "V100", "p100-pcie": "P100", "p4": "P4", "k80": "K80", "mi210": "AMD-Instinct-MI210",
    "mi250x": "AMD-Instinct-MI250X", "mi300a": "AMD-Instinct-MI300A", "mi300x": "AMD-Instinct-MI300X-OAM",
    "mi325x": "AMD-Instinct-MI325X-OAM", "mi350x": "AMD-Instinct-MI350X-OAM",
    "mi355x": "AMD-Instinct-MI355X-OAM", "max-1100": "Intel-GPU-Max-1100", "max-1550": "Intel-GPU-Max-1550",
}  # fmt: skip
"""Ray's own names of accelerators (ray.util.accelerators), those that its nodes have without being told."""
SERVER_WORDS = ("host", "port")
"""Words of the command that are not the engine's."""


def ray(made: Deployment) -> str:
    """A Serve config. NotSupported for another engine, or a device that Ray has no name for."""
    if made.method.engine != "vllm":
        raise NotSupported(
            f"Ray Serve LLM runs vllm, and this choice is {made.method.engine}: ask with --engine vllm"
        )
    accelerator = ACCELERATORS.get(made.device)
    if accelerator is None:
        raise NotSupported(
            f"Ray has no name for {made.device}; it knows {', '.join(sorted(set(ACCELERATORS.values())))}"
        )
    model, *words = made.argv[2:]
    config = {
        "model_loading_config": {"model_id": made.name, "model_source": model},
        "accelerator_type": accelerator,
        "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
        "engine_kwargs": engine_arguments(words),
    } | ({"runtime_env": {"env_vars": dict(made.env)}} if made.env else {})
    application = {
        "name": made.name,
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [config]},
    }
    document = {"http_options": {"host": "0.0.0.0", "port": made.port}, "applications": [application]}
    return comment(made, "serve run this.yaml (pip install 'ray[llm]')") + yaml_text(document)


def engine_arguments(words: list[str]) -> dict[str, Any]:
    """vLLM's flags as the arguments of its engine: --max-num-seqs 32 is max_num_seqs: 32, and a flag
    without a value is true (--no-... false)."""
    found: dict[str, Any] = {}
    place = 0
    while place < len(words):
        name = words[place].removeprefix("--").replace("-", "_")
        value = words[place + 1] if place + 1 < len(words) else None
        place += 1
        if value is None or value.startswith("--"):
            found[name.removeprefix("no_")] = not name.startswith("no_")
            continue
        place += 1
        if name not in SERVER_WORDS:
            found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """A number or an object where the text is one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
