"""The study of pictures: every way to draw on every model of it, and its records."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metainf.api.measuring import Measuring, Prepared, hardware_here, prepare_measuring
from metainf.domain import BadInput, NotSupported, Record

if TYPE_CHECKING:
    from metainf.store import Store
    from metainf.study.image_parts import ImagePart


def prepare_image_study(
    store: "Store", models: Sequence[str] = (), methods: Sequence[str] = (), repeats: int | None = None
) -> tuple[list[tuple["ImagePart", Prepared]], dict[str, str]]:
    """The sweeps of this machine's GPU, or of its processor where it has none, laid out without the runs that
    the store holds already; and what was left out, with the reason. Raises BadInput where nothing is left,
    MissingExtra without the engine."""
    from metainf.study.image_parts import ENGINE, parts

    found, left_out = [], {}
    on_gpu = hardware_here(Measuring(), ENGINE).device.kind == "gpu"
    for part in parts(models, methods, on_gpu):
        asked = Measuring(
            model=part.model, engine=ENGINE, workloads=part.workloads, methods=part.methods,
            in_flight=part.batches, requests=part.pictures, repeats=repeats or part.repeats,
            campaign=part.campaign, resume=True,
        )  # fmt: skip
        try:
            found.append((part, prepare_measuring(asked, store)))
        except NotSupported as error:
            left_out[part.model] = str(error)
    if not found:
        raise BadInput("; ".join(left_out.values()))
    return found, left_out


def image_study_records(store: "Store | None" = None) -> list[Record]:
    """The records of a store's studies of pictures, or of the one that ships. BadInput where there are
    none."""
    from metainf.measure.trial import SOURCE
    from metainf.store import Filter
    from metainf.study.image_parts import of_images, shipped

    found = shipped() if store is None else of_images(list(store.query(Filter(source=SOURCE))))
    if not found:
        where = "in this package" if store is None else "in this store"
        raise BadInput(
            f"expected a study of pictures {where}, found none: make one (metainf study images run)"
        )
    return found


def image_study_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row for each model, drawing and method: images/s, its ratio to the baseline, seconds, quality."""
    from metainf.study.easels import easels

    return [row for easel in easels(records) for row in easel.rows()]
