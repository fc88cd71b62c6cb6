"""What every export needs to know of a choice: the image, the words that start the engine, the devices."""

import math
import re

from pydantic import Field, PositiveFloat, PositiveInt

from metainf.domain import Candidate, Frozen, Method, Model, NotSupported
from metainf.engines import Launch
from metainf.engines.device_support import maker

PORT = 8000
MODELS = "/models"
"""Where a container keeps weights: downloads, and files that a note asks for."""
IMAGES: dict[tuple[str, str], str] = {
    ("vllm", "nvidia"): "vllm/vllm-openai:v0.32.0",
    ("vllm", "amd"): "vllm/vllm-openai-rocm:v0.32.0",
    ("sglang", "nvidia"): "lmsysorg/sglang:v0.5.23",
    ("tensorrt-llm", "nvidia"): "nvcr.io/nvidia/tensorrt-llm/release:1.2.0",
    ("llama.cpp", "nvidia"): "ghcr.io/ggml-org/llama.cpp:server-cuda",
    ("llama.cpp", "amd"): "ghcr.io/ggml-org/llama.cpp:server-rocm",
    ("llama.cpp", "intel"): "ghcr.io/ggml-org/llama.cpp:server-intel",
    ("llama.cpp", "cpu"): "ghcr.io/ggml-org/llama.cpp:server",
}
"""Each engine's own image for a maker's devices, of the version whose flags the commands are written in."""
PROGRAMS = {"llama-server": "/app/llama-server"}
"""Programs that an image does not have on its path."""
SPARE_GIB = 20


class Deployment(Frozen):
    """One engine with one model on the devices of one machine, listening at `port`.

    `maker` is whose software drives the devices (nvidia, amd, intel, cpu); `storage_gib` is room for the
    weights as they are published; `notes` is what the flags alone do not say.
    """

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")
    model: Model
    method: Method
    image: str = Field(min_length=1)
    argv: tuple[str, ...] = Field(min_length=1)
    env: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    device: str
    maker: str
    devices: PositiveInt
    usd_per_hour: PositiveFloat | None = None
    storage_gib: PositiveInt
    port: PositiveInt = PORT
    notes: tuple[str, ...] = ()


def deployment(model: Model, candidate: Candidate, launch: Launch, image: str | None = None) -> Deployment:
    """The deployment of a candidate. NotSupported where no public image of the engine runs on its devices
    (`image` names one), or where it takes more than one machine."""
    hardware, method = candidate.hardware, candidate.method
    if (hardware.nodes or 1) > 1:
        raise NotSupported(f"exports are for one machine, found {hardware.nodes}: start the command on each")
    made_by = maker(hardware.device)
    found = image or IMAGES.get((method.engine, made_by))
    if found is None:
        raise NotSupported(
            f"no public image of {method.engine} is known for {hardware.device.name}: name one with --image"
        )
    program, *rest = launch.argv
    return Deployment(
        name=label(model.name),
        model=model,
        method=method,
        image=found,
        argv=(PROGRAMS.get(program, program), *rest, "--host", "0.0.0.0", "--port", str(PORT)),
        env=dict(launch.env),
        files=dict(launch.files),
        device=hardware.device.name,
        maker=made_by,
        devices=hardware.count or 1,
        usd_per_hour=candidate.usd_per_hour,
        storage_gib=SPARE_GIB + math.ceil(2.2 * (model.params_b or 0)),
        notes=launch.notes,
    )


def label(name: str) -> str:
    """A name that a container, a service and a job may have: lower case, digits and hyphens."""
    text = re.sub(r"[^a-z0-9]+", "-", name.rsplit("/", 1)[-1].lower()).strip("-")
    return text[:40].strip("-") or "model"


def comment(made: Deployment, *more: str) -> str:
    """The first lines of a file: what it starts, and what is to be minded."""
    price = "" if made.usd_per_hour is None else f", about {made.usd_per_hour:.2f} $/h"
    lines = [f"{made.model.name} in {made.method.engine} on {made.devices} × {made.device}{price}"]
    lines += [f"Mind: {note}" for note in made.notes] + list(more)
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)
