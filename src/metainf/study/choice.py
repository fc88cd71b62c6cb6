"""What choosing well is worth in the study: who wins where, and what one method for all costs. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from metainf.measure.recipes import PLAIN
from metainf.study.bench import Bench


@dataclass(frozen=True)
class Race:
    """Admitted options of one cell with their throughput, and what those that failed there would fall back
    on: the baseline of their engine."""

    name: str
    rates: Mapping[str, float]
    fallbacks: Mapping[str, float]

    @property
    def best(self) -> float:
        return max(self.rates.values())


@dataclass(frozen=True)
class Always:
    """One option for every cell. `loss` is the geometric mean of best over it on the `cells` where it was
    tried; in `failed` of them it failed and counts as its baseline."""

    option: str
    loss: float
    cells: int
    failed: int
    wins: int


@dataclass(frozen=True)
class Wins:
    """How often an option is the fastest; `clear` where the noise leaves no other."""

    option: str
    wins: int
    clear: int


def races(bench: Bench, gate: bool = True) -> list[Race]:
    """Cells with at least two options."""
    found = []
    for cell in bench.cells:
        rates = bench.options(cell, gate)
        if len(rates) > 1:
            fallback = rates.get(PLAIN, min(rates.values()))
            tried = [name for name in cell.lines if not gate or bench.admitted(name)]
            fallbacks = {name: fallback for name in tried if name not in rates}
            found.append(Race(f"{cell.workload}, {cell.in_flight}", rates, fallbacks))
    return found


def joint_races(together: Sequence[tuple[str, Bench]]) -> list[Race]:
    """Cells that were measured on at least two of the named benches, with all their methods as options."""
    found: dict[str, list[Race]] = {}
    for name, bench in together:
        for race in races(bench):
            rates = {f"{name}: {method}": rate for method, rate in race.rates.items()}
            fallbacks = {f"{name}: {method}": rate for method, rate in race.fallbacks.items()}
            found.setdefault(race.name, []).append(Race(race.name, rates, fallbacks))
    return [_joined(each) for each in found.values() if len(each) > 1]


def always(held: Sequence[Race]) -> list[Always]:
    """Each option as the only one: first those tried in the most cells, the least loss first among them."""
    options = dict.fromkeys(name for race in held for name in (*race.rates, *race.fallbacks))
    found = []
    for option in options:
        losses, failed, wins = [], 0, 0
        for race in held:
            rate = race.rates.get(option, race.fallbacks.get(option))
            if rate is not None:
                losses.append(math.log(race.best / rate))
                failed += option in race.fallbacks
                wins += race.rates.get(option) == race.best
        found.append(Always(option, math.exp(fmean(losses)), len(losses), failed, wins))
    return sorted(found, key=lambda each: (-each.cells, each.loss))


def single_best(held: Sequence[Race]) -> Always | None:
    """The option with the least loss of those that were tried in every cell; None where none was."""
    return next((each for each in always(held) if each.cells == len(held)), None)


def wins(bench: Bench) -> list[Wins]:
    """Admitted methods by how often they are the fastest."""
    won: dict[str, int] = {}
    clear: dict[str, int] = {}
    for cell in bench.cells:
        level = bench.level_with_best(cell)
        if len(bench.options(cell)) > 1:
            won[level[0]] = won.get(level[0], 0) + 1
            clear[level[0]] = clear.get(level[0], 0) + (len(level) == 1)
    found = [Wins(name, won.get(name, 0), clear.get(name, 0)) for name in bench.methods]
    return sorted((each for each in found if each.wins), key=lambda each: -each.wins)


def _joined(parts: Sequence[Race]) -> Race:
    rates = {name: rate for part in parts for name, rate in part.rates.items()}
    fallbacks = {name: rate for part in parts for name, rate in part.fallbacks.items()}
    return Race(parts[0].name, rates, fallbacks)
