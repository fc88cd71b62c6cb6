"""A sweep over the machines of a Ray cluster: each repeat of a workload with all its methods on one machine.

Methods are compared within a machine, never across two, and a machine makes one run at a time. Every node
lays the same question out by itself, so a record names the hardware that it was made on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metainf.api.measured import Measurement, measurement
from metainf.api.measuring import Measuring, Prepared, prepare_measuring
from metainf.domain import BadInput, Record

if TYPE_CHECKING:
    from metainf.measure.order import Planned
    from metainf.measure.sweep import Swept, Tell
    from metainf.store import Store

Mark = tuple[str, str, int]
"""Method, traffic and repeat of a run, whatever the machine."""


@dataclass(frozen=True)
class Part:
    """Runs that one machine makes. `asks_plain`: the unaccelerated method was measured before."""

    asked: Measuring
    marks: tuple[Mark, ...]
    asks_plain: bool


@dataclass(frozen=True)
class Made:
    """What a machine gave: records with the names of their methods, and what it would not run."""

    records: tuple[tuple[Mark, str, Record], ...]
    refused: tuple[tuple[str, str], ...]
    skipped: int
    warnings: tuple[str, ...]


def measure_spread(
    asked: Measuring, prepared: Prepared, address: str, store: "Store | None", tell: "Tell | None" = None
) -> Measurement:
    """Make the prepared runs on a cluster; each part's records are in the store as it ends.

    Raises BadInput for what belongs to one machine (`url`, `time_limit_s`), and as `cluster.spread` does;
    finished parts stay in the store, and `resume` goes on.
    """
    from metainf.cluster import ALONE, spread
    from metainf.measure.sweep import Progress, Swept

    for name, value in (("--url", asked.url), ("--time-limit", asked.time_limit_s)):
        if value is not None:
            raise BadInput(f"expected a sweep for a cluster, found {name}, which belongs to one machine")
    layout = prepared.layout
    swept = Swept(layout.campaign, list(layout.done), list(layout.refused), resumed=len(layout.done))
    parts = parts_of(replace(asked, campaign=layout.campaign, resume=False), layout.runs, bool(layout.done))
    made: list[Made] = []
    said = (lambda _: None) if tell is None else tell
    said(Progress(0, len(layout.runs), "on the cluster", layout.expected_s))
    for name, found in spread(address, make_part, parts, ALONE):
        if store is not None:
            store.add([record for _, _, record in found.records])
        made.append(found)
        done = sum(len(each.records) + each.skipped for each in made)
        left_s = layout.expected_s * max(0.0, 1 - done / max(1, len(layout.runs)))
        said(Progress(done, len(layout.runs), name, left_s))
    return measurement(_gathered(swept, layout.runs, made))


def parts_of(asked: Measuring, runs: "Sequence[Planned]", asks_plain: bool) -> dict[str, Part]:
    """The parts by what a person calls them."""
    from metainf.measure.asked import concurrency

    groups: dict[str, list[Mark]] = {}
    for each in runs:
        traffic = each.run.traffic
        in_flight = concurrency(traffic.pacing)
        name = f"{traffic.name}, {in_flight or 'open loop'} in flight, repeat {each.run.trial + 1}"
        groups.setdefault(name, []).append(mark_of(each))
    return {name: Part(asked, tuple(marks), asks_plain) for name, marks in groups.items()}


def mark_of(planned: "Planned") -> Mark:
    """What tells a run of a sweep apart from the others."""
    return planned.run.method.id, repr(planned.run.traffic), planned.run.trial


def make_part(part: Part) -> Made:
    """On a node: lay the question out here, and make the runs that are this part's."""
    from metainf.measure.sweep import sweep

    prepared = prepare_measuring(part.asked)
    wanted = set(part.marks)
    runs = tuple(each for each in prepared.layout.runs if mark_of(each) in wanted)
    layout = replace(prepared.layout, runs=runs)
    order = replace(prepared.order, asks_plain=prepared.order.asks_plain or part.asks_plain)
    swept = sweep(order, layout, None, prepared.engine_of)
    by_key = {each.run.key: mark_of(each) for each in runs}
    records = tuple(
        (by_key[record.provenance.location or ""], name, record) for name, record in swept.records
    )
    return Made(records, layout.refused, swept.skipped, tuple(swept.warnings))


def _gathered(swept: "Swept", runs: "Sequence[Planned]", made: list[Made]) -> "Swept":
    """What all parts gave, in the order of one machine's sweep."""
    order = {mark_of(each): place for place, each in enumerate(runs)}
    found = sorted((each for part in made for each in part.records), key=lambda each: order[each[0]])
    swept.records += [(name, record) for _, name, record in found]
    swept.refused = list(dict.fromkeys([*swept.refused, *(each for part in made for each in part.refused)]))
    swept.skipped = sum(part.skipped for part in made)
    swept.warnings = list(dict.fromkeys(each for part in made for each in part.warnings))
    return swept
