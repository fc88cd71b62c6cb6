"""The study: which runs it makes, and the records of it that ship. Pure but for reading those.

After the paper's section 2.3 (Figure 2): methods × requests in flight × workloads, on every engine there is.
The weights are 16-bit, so that quantization is a method beside the others; what would only repeat another run
is left out (a batch of one is a batch of one, however it is made; where all requests leave at once, there is
one batch and nothing to join it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from math import ceil

from metainf.domain import BadInput, Record
from metainf.study.bench import CAMPAIGN

ENGINES = ("openvino", "llama.cpp")
WORKLOADS = (
    "short_chat",
    "shared_prefix_warm",
    "long_prompt",
    "long_generation",
    "copy_edit",
    "mixed",
)
METHODS = (
    "baseline",
    "static",
    "continuous",
    "chunked",
    "prefix",
    "lookup",
    "q8_0",
    "q4_0",
    "kv",
    "all+q8_0",
)
IN_FLIGHT = (1, 4, 16, 64)
ONLY_TOGETHER = ("static", "continuous")
"""What one request at a time makes one and the same."""
ONLY_IN_TURNS = ("static",)
"""What is continuous batching where all requests are sent at once."""
MANY, FOR_MANY = 64, ("short_chat",)
FEWEST, USUAL, TURNS = 4, 8, 1.5
"""Requests of a run: four for one in flight, eight for a few, else half as many again as are in flight, so
that there is a batch to wait for and something to join a running one."""


@dataclass(frozen=True)
class Grid:
    """What to study; the default is all of it. `requests` None: as `requests_for`."""

    engines: Sequence[str] = ENGINES
    workloads: Sequence[str] = WORKLOADS
    methods: Sequence[str] = METHODS
    in_flight: Sequence[int] = IN_FLIGHT
    requests: int | None = None


@dataclass(frozen=True)
class Part:
    """One sweep of the study: every method on every workload of one engine at one load."""

    engine: str
    in_flight: int
    workloads: tuple[str, ...]
    methods: tuple[str, ...]
    requests: int

    @property
    def words(self) -> str:
        """What runs, for a progress bar."""
        return f"{self.engine}, {self.in_flight} in flight"

    @property
    def campaign(self) -> str:
        """Names the sweep in the store, so that a stopped one can go on."""
        return f"{CAMPAIGN}{self.engine}-{self.in_flight}"


def parts(grid: Grid) -> list[Part]:
    """The sweeps of a grid, engine by engine at each load. Raises BadInput for an empty or absurd one."""
    if not all((grid.engines, grid.workloads, grid.methods, grid.in_flight)):
        raise BadInput("expected an engine, a workload, a method and a load at least, found none of one")
    if min(grid.in_flight) < 1:
        raise BadInput(f"expected at least 1 request in flight, found {min(grid.in_flight)}")
    found = []
    for engine in grid.engines:
        for count in grid.in_flight:
            wide = [name for name in grid.workloads if count < MANY or name in FOR_MANY]
            requests = grid.requests or requests_for(count)
            alike = ONLY_TOGETHER if count == 1 else ONLY_IN_TURNS if requests <= count else ()
            methods = [method for method in grid.methods if method not in alike]
            if wide and methods:
                found.append(Part(engine, count, tuple(wide), tuple(methods), requests))
    return found


def requests_for(in_flight: int) -> int:
    """How many requests a run sends."""
    return max(min(USUAL, FEWEST * in_flight), ceil(TURNS * in_flight))


def shipped() -> list[Record]:
    """The study made for this release, on two cores of a server CPU; nothing where it is not packaged."""
    from metainf.store.files import read_records

    packaged = files("metainf.study") / "data" / "study.parquet"
    if not packaged.is_file():
        return []
    with as_file(packaged) as path:
        return list(read_records(path))
