"""A launch in the making: an engine's own words, and the command line that grows of them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from metainf.domain import Device, Hardware, Method, Model, Workload

T = TypeVar("T")


@dataclass(frozen=True)
class Words:
    """One engine's own words. Mappings go from our name of a setting to the engine's.

    `proposed`  weight formats to propose, each with the devices that run it
    `weights`   weight formats it loads; those in `online` are made while loading
    `drafted`   algorithms, in the engine's words, that need a draft model
    `layouts`   what it offers besides, named when another way of spreading is refused
    """

    program: tuple[str, ...]
    tensor: str
    pipeline: str
    sequences: str
    context: str
    layouts: tuple[str, ...]
    weights: Mapping[str, str]
    caches: Mapping[str, str]
    speculative: Mapping[str, str]
    drafted: tuple[str, ...]
    data: str | None = None
    online: tuple[str, ...] = ()
    gguf: tuple[str, ...] = ()
    proposed: Mapping[str, Callable[[Device], bool]] = field(default_factory=dict)
    cache_tiers: tuple[str, ...] = ("device",)
    options_file: str = ""
    options_flag: str = ""


@dataclass
class Command:
    """A launch in the making: what is asked, and the words, notes, settings and file options so far."""

    model: Model
    method: Method
    hardware: Hardware
    workload: Workload
    argv: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def add(self, *words: object) -> None:
        """Append words; none where one of them is None."""
        if None not in words:
            self.argv += [str(word) for word in words]

    def get(self, technique: type[T]) -> T | None:
        """The method's setting of one technique, or None."""
        return self.method.get(technique)


def same(words: Iterable[str]) -> dict[str, str]:
    """A mapping of each word to itself, for settings that the engine calls as we do."""
    return {word: word for word in words}
