"""Engines: which methods each offers, and the command that starts one. No process, socket or file here.

The table below is the whole registry; entry points of the group `metainf.engines` add to it.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Protocol, runtime_checkable

from metainf.domain import Hardware, Method, Model, UnknownName, Workload
from metainf.engines.compatibility import Finding, check
from metainf.engines.launch import Launch
from metainf.engines.memory import Requirement, requirement

__all__ = [
    "ENGINES",
    "Engine",
    "Finding",
    "Launch",
    "Requirement",
    "check",
    "engine",
    "engines",
    "requirement",
]

ENGINES: Mapping[str, str] = {
    "vllm": "metainf.engines.vllm:Vllm",
    "sglang": "metainf.engines.sglang:Sglang",
    "tensorrt-llm": "metainf.engines.tensorrt_llm:TensorRtLlm",
    "llama.cpp": "metainf.engines.llama_cpp:LlamaCpp",
    "openvino": "metainf.engines.openvino:OpenVino",
    "transformers": "metainf.engines.transformers:Transformers",
    "diffusers": "metainf.engines.diffusers:Diffusers",
}


@runtime_checkable
class Engine(Protocol):
    """What the rest of the house knows of an engine.

    `offers` are the technique classes it has settings for; `methods` proposes at most 40 candidates, none
    where it cannot run; `launch` raises NotSupported for a setting it lacks.
    """

    name: str
    title: str
    offers: tuple[type, ...]

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ...) -> list[Method]: ...

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch: ...


@cache
def table() -> Mapping[str, str]:
    """Name to `module:Class`: the table above and what installed packages add; ours win a clash."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group="metainf.engines")} | dict(ENGINES)


@cache
def engine(name: str) -> Engine:
    """The engine of this name, loaded on first use. UnknownName with near misses."""
    target = table().get(name)
    if target is None:
        raise UnknownName("engine", name, table())
    module, _, attribute = target.partition(":")
    found: Engine = getattr(import_module(module), attribute)()
    return found


def engines() -> Mapping[str, Engine]:
    """Every engine, loaded."""
    return {name: engine(name) for name in table()}
