"""The study's page and its pictures, from records."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from metainf.domain import Record


def study_page(
    records: Iterable[Record], figures: Mapping[str, str] | None = None, least_agreement: float | None = None
) -> str:
    """The page of a study in Markdown, from its records alone; the same records give the same page.

    figures: paths by label, relative to the page (see `study_plots`). least_agreement: the share of greedy
    answers that a method must have in common with the baseline to be recommended; 0 lifts that gate, None is
    the study's own. Raises BadInput where no record is of a named workload at a number of requests in flight.
    """
    from metainf.measure.asked import LEAST_AGREEMENT
    from metainf.study.report import page

    least = LEAST_AGREEMENT if least_agreement is None else least_agreement
    return page(sorted(records, key=lambda record: record.id), figures, least)


def write_study(
    records: Iterable[Record], path: Path, plots: Path | None = None, least_agreement: float | None = None
) -> None:
    """Write the page of a study, and its pictures into the folder `plots` where one is given."""
    from metainf.api.learning import beside
    from metainf.api.pictures import study_plots

    held = list(records)
    drawn = {} if plots is None else study_plots(held, plots)
    shown = {label: beside(picture, path.parent) for label, picture in drawn.items()}
    path.write_text(study_page(held, shown, least_agreement), encoding="utf-8")
