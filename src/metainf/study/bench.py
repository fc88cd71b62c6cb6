"""The study as a grid: for each engine, workload and load the methods that were measured there. Pure.

`metainf.study.benches` reads it from records. Two numbers differ where their ratio is further from 1
than the spread between repeats explains: 95 % bounds from the standard deviation of the logarithms within
repeats, pooled over all that was repeated on an engine.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from metainf.domain import Record, UnknownName
from metainf.engines import engine
from metainf.engines.serving import ServingEngine
from metainf.measure.recipes import PLAIN, method_name, recipe_name
from metainf.measure.summary import Line
from metainf.measure.trial import SOURCE

Key = tuple[str, str, str, str]
CAMPAIGN = "study-"
ALL = "all"
_ORDER = (PLAIN, "static", "continuous", "chunked", "prefix", "lookup")


@dataclass(frozen=True)
class Ratio:
    """A ratio with the bounds that the spread between repeats leaves; `half` is in logarithms."""

    value: float
    half: float

    @property
    def low(self) -> float:
        return self.value * math.exp(-self.half)

    @property
    def high(self) -> float:
        return self.value * math.exp(self.half)


@dataclass(frozen=True)
class Spread:
    """Standard deviation of the logarithm of a throughput between repeats; `freedom` counts what it rests on
    (0: it is assumed)."""

    deviation: float
    freedom: int

    def half(self, *repeats: int) -> float:
        """Half the width of the 95 % interval of a log ratio of means of so many repeats."""
        from scipy.special import stdtrit

        quantile = float(stdtrit(self.freedom, 0.975)) if self.freedom else 1.96
        return quantile * self.deviation * math.sqrt(sum(1 / count for count in repeats))


@dataclass(frozen=True)
class Cell:
    """One workload at one load; `lines` by method. A method that was not run is absent, one that failed
    has no throughput. `longest_prompt` is in tokens, None where no run counted them."""

    workload: str
    in_flight: int
    lines: Mapping[str, Line]
    longest_prompt: float | None = None

    def rate(self, method: str) -> float | None:
        """Output tokens per second, median of repeats."""
        line = self.lines.get(method)
        return None if line is None else line.output_tokens_per_s

    @property
    def rates(self) -> dict[str, float]:
        """All that was measured."""
        found = {name: line.output_tokens_per_s for name, line in self.lines.items()}
        return {name: rate for name, rate in found.items() if rate is not None}


@dataclass(frozen=True)
class Bench:
    """One engine with one model (in the number format of its file) on one machine. `agreement` with the
    baseline's answers by method (None where none was compared); `least` is what a method must reach to be
    admitted."""

    engine: str
    model: str
    weights: str
    hardware: str
    cells: tuple[Cell, ...]
    spread: Spread
    agreement: Mapping[str, float | None]
    least: float

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """All methods, the plain one first, those with everything last."""
        found = dict.fromkeys(name for cell in self.cells for name in cell.lines)
        return tuple(sorted(found, key=_place))

    @property
    def levels(self) -> list[int]:
        """Requests in flight, ascending."""
        return sorted({cell.in_flight for cell in self.cells})

    @property
    def judged(self) -> bool:
        """Whether any accelerated method was compared with the baseline's answers."""
        return any(value is not None for name, value in self.agreement.items() if name != PLAIN)

    def admitted(self, method: str) -> bool:
        """Whether a method's answers are near enough to the baseline's. The baseline always is; there
        is no gate at a threshold of 0, nor without a single comparison on the bench."""
        if method == PLAIN or not self.judged or not self.least:
            return True
        value = self.agreement.get(method)
        return value is not None and value >= self.least

    def held_back(self, method: str) -> bool:
        """Whether a method has numbers and is not admitted."""
        return not self.admitted(method) and any(method in cell.rates for cell in self.cells)

    def options(self, cell: Cell, gate: bool = True) -> dict[str, float]:
        """Measured methods with their throughput; with the gate, only those that are admitted."""
        return {name: rate for name, rate in cell.rates.items() if not gate or self.admitted(name)}

    def best(self, cell: Cell, gate: bool = True) -> str | None:
        """The fastest method of a cell."""
        options = self.options(cell, gate)
        return max(options, key=lambda name: options[name]) if options else None

    def level_with_best(self, cell: Cell) -> list[str]:
        """Admitted methods that the noise cannot tell from the best, the best first."""
        best = self.best(cell)
        if best is None:
            return []
        near = [name for name in self.options(cell) if name != best and self._near(cell, best, name)]
        return [best, *sorted(near, key=_place)]

    def _near(self, cell: Cell, best: str, name: str) -> bool:
        found = self.ratio(cell, best, name)
        return found is not None and found.low <= 1

    def ratio(self, cell: Cell, method: str, other: str) -> Ratio | None:
        """Throughput of one method over that of another; None where either has none."""
        one, two = cell.lines.get(method), cell.lines.get(other)
        if one is None or two is None or not one.output_tokens_per_s or not two.output_tokens_per_s:
            return None
        repeats = (one.runs - one.failures, two.runs - two.failures)
        return Ratio(one.output_tokens_per_s / two.output_tokens_per_s, self.spread.half(*repeats))


def of_study(records: Iterable[Record]) -> list[Record]:
    """Those that belong to the study, by the name of their campaign."""
    return [
        r
        for r in records
        if r.provenance.source == SOURCE and (r.provenance.campaign or "").startswith(CAMPAIGN)
    ]


def in_grid(record: Record) -> bool:
    """Whether a record is of a named workload with a whole number of requests in flight."""
    work = record.setting.workload
    return (
        work.name is not None and work.concurrency is not None and work.concurrency == int(work.concurrency)
    )


def labels(held: Sequence[Bench]) -> list[str]:
    """A name for each bench: its engine, with what tells it from the others of that engine."""

    def differ(bench: Bench, of: Callable[[Bench], str]) -> bool:
        return len({of(other) for other in held if other.engine == bench.engine}) > 1

    found = []
    for bench in held:
        parts = [of(bench) for of in (_model_of, _machine_of) if differ(bench, of)]
        found.append(f"{bench.engine} on {', '.join(parts)}" if parts else bench.engine)
    return found


def _model_of(bench: Bench) -> str:
    return f"{bench.model} ({bench.weights})"


def _machine_of(bench: Bench) -> str:
    return bench.hardware


def bench_of(record: Record) -> Key:
    """Engine, model, format of its weights and machine of a record."""
    hardware = record.setting.hardware
    device = hardware.device.title or hardware.device.name
    count = f"{hardware.count} × " if (hardware.count or 1) > 1 else ""
    model = record.setting.model
    weights = model.quantization or model.dtype or "weights as they are"
    return record.method.engine, model.name, weights, f"{count}{device}"


def name_of(record: Record) -> str:
    """The method of a record as a recipe; batches of all that are in flight have no number."""
    in_flight = record.setting.workload.concurrency
    try:
        found = engine(record.method.engine)
    except UnknownName:
        return method_name(record.method)
    if not isinstance(found, ServingEngine):
        return method_name(record.method)
    return recipe_name(record.method, found, None if in_flight is None else int(in_flight))


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio | None:
    """Of independent ratios; None of none."""
    if not ratios:
        return None
    half = math.sqrt(sum(each.half**2 for each in ratios)) / len(ratios)
    return Ratio(math.exp(fmean(math.log(each.value) for each in ratios)), half)


def _place(name: str) -> tuple[bool, int, str]:
    first = name.partition("+")[0].partition("-")[0]
    return is_all(name), _ORDER.index(first) if first in _ORDER else len(_ORDER), name


def is_all(name: str) -> bool:
    """Whether a method switches everything on."""
    return name.partition("+")[0] == ALL
