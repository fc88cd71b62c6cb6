"""What the InferenceX campaign ran: its published lists of configurations (`data/inferencex.toml`).

A point is one configuration at one load. Points are found by what a row states of its configuration, never
by what was measured.
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from metainf.domain import BadInput

ENGINE = r"(TP|TEP|DTP|DEP)(\d+)"
LINE = re.compile(rf"(\d+)/(\d+) (?:(mtp)(\d*) )?(?:(\d+)x{ENGINE}\+(\d+)x{ENGINE}|{ENGINE}): ([\d -]+)")
THOUSAND = 1024
Family = tuple[str, str, str, str, str]
"""Short model name, precision, hardware, engine and engine version ("" where the row has none)."""


@dataclass(frozen=True)
class Engine:
    """`workers` equal engines of `devices` devices each."""

    workers: int
    devices: int
    experts: bool
    attention: bool

    @property
    def name(self) -> str:
        """TP8, TEP8, DTP8 or DEP8."""
        kind = {(False, False): "TP", (True, False): "TEP", (False, True): "DTP", (True, True): "DEP"}
        return f"{kind[self.experts, self.attention]}{self.devices}"


@dataclass(frozen=True)
class Run:
    """One entry of the campaign's list: who ran, when it existed, and how far a row's degrees can be read."""

    name: str
    location: str
    since: str
    before: str
    degrees_said: bool
    pool_total: bool


@dataclass(frozen=True)
class Point:
    """One configuration at one load. Lengths in tokens; `prefill` is None for a single engine."""

    run: Run
    input_tokens: int
    output_tokens: int
    concurrency: int
    drafting: str | None
    draft_tokens: int | None
    prefill: Engine | None
    decode: Engine

    @property
    def devices(self) -> int:
        """Devices of both pools together."""
        pools = [self.decode] if self.prefill is None else [self.prefill, self.decode]
        return sum(pool.workers * pool.devices for pool in pools)

    @property
    def seen(self) -> tuple[object, ...]:
        """What tells two points apart in a row that gives neither drafting nor worker counts."""
        work = (self.input_tokens, self.output_tokens, self.concurrency)
        if self.prefill is None:
            return (*work, self.decode.name)
        return (*work, self.prefill.devices, self.decode.devices)


@cache
def points() -> Mapping[Family, tuple[Point, ...]]:
    """Every point by what names its family."""
    file = resources.files("metainf.importers").joinpath("data/inferencex.toml")
    raw = tomllib.loads(file.read_text("utf-8"))
    found: defaultdict[Family, list[Point]] = defaultdict(list)
    for entry in raw["runs"]:
        run = Run(
            name=entry["name"],
            location=raw["sources"][entry["source"]]["location"],
            since=entry.get("since", ""),
            before=entry.get("before", "9999"),
            degrees_said=entry.get("degrees_said", True),
            pool_total=entry.get("pool_total", False),
        )
        read = [point for line in entry["points"].strip().splitlines() for point in parse(line, run)]
        for model in entry["models"]:
            for version in entry["versions"]:
                family = (model.lower(), entry["precision"], entry["hardware"], entry["engine"], version)
                found[family] += read
    return {family: tuple(each) for family, each in found.items()}


def parse(line: str, run: Run) -> Iterator[Point]:
    """The points of one line. BadInput where the line does not follow the file's own grammar."""
    match = LINE.fullmatch(line.strip())
    if match is None:
        raise BadInput(f"{run.name}: expected 'IN/OUT [mtpN] LAYOUT: LOADS', found {line!r}")
    inside, outside, drafting, drafted, *layout = match.groups()
    p_workers, p_kind, p_devices, d_workers, d_kind, d_devices, kind, devices, loads = layout
    pooled = p_workers is not None
    for load in _loads(loads):
        yield Point(
            run=run,
            input_tokens=int(inside) * THOUSAND,
            output_tokens=int(outside) * THOUSAND,
            concurrency=load,
            drafting=drafting,
            draft_tokens=int(drafted) if drafted else None,
            prefill=_engine(p_workers, p_kind, p_devices) if pooled else None,
            decode=_engine(d_workers, d_kind, d_devices) if pooled else _engine("1", kind, devices),
        )


def _engine(workers: Any, kind: Any, devices: Any) -> Engine:
    return Engine(int(workers), int(devices), experts="E" in kind, attention=kind.startswith("D"))


def _loads(said: str) -> Iterator[int]:
    """`4-64` doubles from 4 to 64."""
    for word in said.split():
        first, _, last = word.partition("-")
        load = int(first)
        while load <= int(last or first):
            yield load
            load *= 2
