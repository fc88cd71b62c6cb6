"""How a method starts: a command line, its environment and the files it reads."""

import math
import shlex
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from metainf.domain import (
    BadInput,
    Frozen,
    Hardware,
    Method,
    Model,
    NotSupported,
    Parallelism,
    Technique,
    Workload,
)
from metainf.engines.compatibility import check

_DTYPES = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float32": "float32",
    "auto": "auto",
}


class Launch(Frozen):
    """A command ready to run. `files` maps file names to the text the command expects beside it.

    `notes` say what the flags alone do not: defaults relied on, checkpoints needed, known harm.
    """

    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    env: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """One line for a POSIX shell: writes the files, sets the environment, starts the engine."""
        writes = [f"printf %s {shlex.quote(text)} > {shlex.quote(name)}" for name, text in self.files.items()]
        settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(self.env.items())]
        return " && ".join([*writes, " ".join([*settings, shlex.join(self.argv)])])


def checkpoint(model: Model) -> str:
    """Where an engine finds the weights: the local path that the facts were read from, else the name."""
    path = model.source or ""
    return path if path.startswith(("/", "./", "../", "~")) or path.endswith(".gguf") else model.name


def require_offered(engine: str, method: Method, offers: Iterable[type]) -> None:
    """Raise BadInput for another engine's method, NotSupported for a technique the engine lacks."""
    if method.engine != engine:
        raise BadInput(f"expected a method of {engine}, found one of {method.engine}")
    offered = tuple(offers)
    for technique in method.techniques:
        if not isinstance(technique, offered):
            raise not_offered(engine, technique.kind, (kind_of(item) for item in offered))


def not_offered(engine: str, what: str, offered: Iterable[str]) -> NotSupported:
    """The error for a setting an engine does not have, naming what it has instead."""
    return NotSupported(f"{engine} does not offer {what}; it offers {', '.join(sorted(offered))}")


def kind_of(technique: type[Technique]) -> str:
    """The tag of a technique class, such as `prefix_cache`."""
    return str(technique.model_fields["kind"].default)


def degrees(parallelism: Parallelism | None, devices: int | None) -> tuple[int, int, int]:
    """(tensor, pipeline, data) with absent degrees as one; BadInput where they exceed the devices."""
    if parallelism is None:
        return 1, 1, 1
    found = (parallelism.tensor or 1, parallelism.pipeline or 1, parallelism.data or 1)
    used = found[0] * found[1] * found[2]
    if devices is not None and used > devices:
        raise BadInput(f"tensor × pipeline × data = {used} devices wanted, {devices} there: lower a degree")
    return found


def dtype_name(dtype: str) -> str:
    """The PyTorch name of a number format; NotSupported for one that servers do not load."""
    name = _DTYPES.get(dtype.lower())
    if name is None:
        raise NotSupported(f"no server loads dtype {dtype}; they load {', '.join(sorted(_DTYPES))}")
    return name


def known_context_tokens(workload: Workload) -> int | None:
    """Longest request in tokens where the workload states both maxima, else None."""
    sides = (workload.input_tokens, workload.output_tokens)
    maxima = [side.max for side in sides if side is not None and side.max is not None]
    return math.ceil(sum(maxima)) if len(maxima) == 2 else None


def finding_notes(method: Method, model: Model, workload: Workload, hardware: Hardware) -> list[str]:
    """One line per row of the compatibility table that applies."""
    return [f"{item.effect}: {item.why} [{item.source}]" for item in check(method, model, workload, hardware)]
