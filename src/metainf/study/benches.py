"""Records of a study as benches: one for each engine, model and machine. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

from metainf.domain import BadInput, Record
from metainf.measure.asked import AGREEMENT, LEAST_AGREEMENT
from metainf.measure.study_traffic import STUDY
from metainf.measure.summary import Line, summary
from metainf.study.bench import Bench, Cell, Key, Spread, bench_of, in_grid, name_of

Named = Sequence[tuple[str, Record]]
ASSUMED_SPREAD = 0.1
"""Standard deviation between repeats that is assumed where nothing was repeated."""
LEAST_SPREAD = 0.01


def benches(records: Iterable[Record], least_agreement: float = LEAST_AGREEMENT) -> list[Bench]:
    """The grids of all engines, models and machines among the records. Those not `in_grid` are left out.

    Where a machine has no figure of how far a method agrees with the baseline, that of the same engine and
    weights on the others counts, for it is a matter of arithmetic.
    Raises BadInput where none is left, and for a threshold that is no share.
    """
    if not 0 <= least_agreement <= 1:
        raise BadInput(f"least agreement: expected a share from 0 to 1, found {least_agreement}")
    groups: dict[Key, list[tuple[str, Record]]] = {}
    for record in filter(in_grid, records):
        groups.setdefault(bench_of(record), []).append((name_of(record), record))
    if not groups:
        raise BadInput(
            "expected records of a study (named workloads at a number of requests in flight), found none: "
            "make some with metainf study run"
        )
    told = {key: _agreement(groups[key]) for key in sorted(groups)}
    return [_bench(key, groups[key], _completed(key, told), least_agreement) for key in told]


def _bench(key: Key, named: Named, agreement: Mapping[str, float | None], least: float) -> Bench:
    found: dict[tuple[str, int], dict[str, Line]] = {}
    for line in summary(named):
        found.setdefault((line.workload, int(line.in_flight or 0)), {})[line.method] = line
    order = {name: place for place, name in enumerate(STUDY)}
    places = sorted(found, key=lambda cell: (order.get(cell[0], len(order)), cell))
    longest = _longest([record for _, record in named])
    cells = tuple(Cell(*place, lines=found[place], longest_prompt=longest.get(place)) for place in places)
    return Bench(*key, cells, _spread(named), agreement, least)


def _agreement(named: Named) -> dict[str, float | None]:
    """Of each method the median agreement of its runs, None where none was compared."""
    values: dict[str, list[float]] = {}
    for name, record in named:
        seen = values.setdefault(name, [])
        metrics = record.metrics
        if metrics and metrics.quality is not None and metrics.quality_metric == AGREEMENT:
            seen.append(metrics.quality)
    return {name: median(seen) if seen else None for name, seen in values.items()}


def _completed(key: Key, told: Mapping[Key, Mapping[str, float | None]]) -> dict[str, float | None]:
    """The agreement of a bench, with the median of the others of its engine and weights where it has none."""
    others = [found for other, found in told.items() if other[:3] == key[:3]]
    known = {name: [v for found in others if (v := found.get(name)) is not None] for name in told[key]}
    return {
        name: median(known[name]) if own is None and known[name] else own for name, own in told[key].items()
    }


def _longest(records: Sequence[Record]) -> dict[tuple[str, int], float]:
    """Tokens of the longest prompt by cell, as far as runs that were measured counted them."""
    found: dict[tuple[str, int], float] = {}
    for work in (record.setting.workload for record in records if record.metrics is not None):
        if work.input_tokens is not None and work.input_tokens.max is not None:
            place = work.name or "", int(work.concurrency or 0)
            found[place] = max(found.get(place, 0.0), work.input_tokens.max)
    return found


def _spread(named: Named) -> Spread:
    groups: dict[tuple[str, str | None, float | None], list[float]] = {}
    for name, record in named:
        rate = record.metrics.output_tokens_per_s if record.metrics else None
        work = record.setting.workload
        if rate is not None:
            groups.setdefault((name, work.name, work.concurrency), []).append(math.log(rate))
    repeated = [logs for logs in groups.values() if len(logs) > 1]
    freedom = sum(len(logs) - 1 for logs in repeated)
    if not freedom:
        return Spread(ASSUMED_SPREAD, 0)
    squares = sum((value - fmean(logs)) ** 2 for logs in repeated for value in logs)
    return Spread(max(LEAST_SPREAD, math.sqrt(squares / freedom)), freedom)
