"""The study: every method on every workload, in the engines that are installed here."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from metainf.api.measuring import Measuring, Prepared, measure, prepare_measuring
from metainf.domain import BadInput, MissingExtra, NotSupported, Record

if TYPE_CHECKING:
    from metainf.measure.sweep import Progress
    from metainf.store import Store
    from metainf.study.parts import Grid, Part

WEIGHTS = "F16"


class Named(Protocol):
    """A part of a study."""

    @property
    def words(self) -> str: ...


Tell = Callable[[str, "Progress"], None]


@dataclass
class Studied:
    """What a study made: the records of this call, and which engines were left out and why."""

    records: list[Record] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    unmade: int = 0
    resumed: int = 0


def study_grid(**fields: object) -> "Grid":
    """What to study, by the fields of `metainf.study.parts.Grid`; absent ones are all there is."""
    from metainf.study.parts import Grid

    return Grid(**{name: value for name, value in fields.items() if value})  # type: ignore[arg-type]


def prepare_study(
    grid: "Grid", store: "Store", model: str | None = None, repeats: int = 1
) -> tuple[list[tuple["Part", Prepared]], dict[str, str]]:
    """The sweeps laid out, without the runs that the store holds already; and the engines left out, with
    the reason. Raises BadInput where no engine is left."""
    from metainf.study.parts import parts

    weights, found, left_out = model or _weights(), [], {}
    for part in parts(grid):
        asked = Measuring(
            model=weights, engine=part.engine, workloads=part.workloads, methods=part.methods,
            in_flight=(part.in_flight,), requests=part.requests, repeats=repeats, campaign=part.campaign,
            resume=True,
        )  # fmt: skip
        try:
            found.append((part, prepare_measuring(asked, store)))
        except (MissingExtra, NotSupported) as error:
            left_out[part.engine] = str(error)
    if not found:
        raise BadInput("; ".join(left_out.values()))
    return found, left_out


def study(
    prepared: Sequence[tuple[Named, Prepared]],
    store: "Store",
    time_limit_s: float | None = None,
    tell: Tell = lambda part, now: None,
) -> Studied:
    """Make the runs; each record is in the store before the next run. No run begins that would end after
    the time limit."""
    begun_s, result = time.monotonic(), Studied()
    for part, sweep in prepared:
        left_s = None if time_limit_s is None else time_limit_s - (time.monotonic() - begun_s)
        order = replace(sweep.order, time_limit_s=left_s)
        made = measure(
            replace(sweep, order=order),
            store,
            lambda now, words=part.words: tell(words, now),  # type: ignore[misc]
        )
        result.records += [record for _, record in made.swept.records[made.swept.resumed :]]
        result.unmade += made.swept.unmade
        result.resumed += made.swept.resumed
    return result


def study_records(store: "Store | None" = None) -> list[Record]:
    """The records of a store's studies, or of the one that ships. BadInput where there are none."""
    from metainf.measure.trial import SOURCE
    from metainf.store import Filter
    from metainf.study.bench import of_study
    from metainf.study.parts import shipped

    found = shipped() if store is None else of_study(store.query(Filter(source=SOURCE)))
    if not found:
        where = "in this package" if store is None else "in this store"
        raise BadInput(
            f"expected a study {where}, found none: make one (metainf study run) and name its --store"
        )
    return found


def study_winners(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each engine, workload and load: the fastest method that keeps the answers, its tokens/s, and how
    many times those of the baseline that is."""
    from metainf.measure.recipes import PLAIN
    from metainf.study.bench import labels
    from metainf.study.benches import benches

    held = benches(records)
    rows = []
    for name, bench in zip(labels(held), held, strict=True):
        for cell in bench.cells:
            best = bench.best(cell)
            ratio = bench.ratio(cell, best, PLAIN) if best is not None else None
            row: dict[str, Any] = {"engine": name, "workload": cell.workload, "in_flight": cell.in_flight}
            row |= {"best": best, "output_tokens_per_s": None if best is None else cell.rate(best)}
            rows.append(row | {"over_baseline": None if ratio is None else ratio.value})
    return rows


def _weights() -> str:
    """The packaged model with 16-bit weights, made on first use."""
    from metainf.measure.weights import bundled, in_format

    return str(in_format(bundled(), WEIGHTS))
