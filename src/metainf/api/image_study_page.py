"""The page of the study of pictures and its figures, from records."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf.api.pictures import MARKS, drawing, keep
from metainf.domain import Record

if TYPE_CHECKING:
    from metainf.study.easels import Easel


def image_study_page(records: Iterable[Record], figures: Mapping[str, str] | None = None) -> str:
    """The page in Markdown, from the records alone; the same records give the same page. BadInput without
    any."""
    from metainf.study.image_page import page

    return page(list(records), figures)


def write_image_study(records: Iterable[Record], path: Path, plots: Path | None = None) -> None:
    """Write the page, and its figures into the folder `plots` where one is given."""
    from metainf.api.learning import beside

    held = list(records)
    drawn = {} if plots is None else image_study_plots(held, plots)
    shown = {label: beside(picture, path.parent) for label, picture in drawn.items()}
    path.write_text(image_study_page(held, shown), encoding="utf-8")


def image_study_plots(records: Iterable[Record], folder: Path) -> dict[str, Path]:
    """`methods`: how many times as fast as the baseline each method is, a panel for each model; `digits`: the
    likeness of digits to real ones against images per second. The folder is made; MissingExtra without
    matplotlib."""
    from metainf.catalog.digits import TEACHER
    from metainf.study.easels import easels

    held = easels(list(records))
    pyplot = drawing()
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}
    with pyplot.rc_context({"svg.fonttype": "none", "font.size": 8}):
        synthetic = [easel for easel in held if easel.model != TEACHER]
        if synthetic:
            made["methods"] = folder / "study-images-methods.svg"
            keep(_methods_figure(pyplot, synthetic), made["methods"])
        for easel in (each for each in held if each.model == TEACHER):
            made["digits"] = folder / "study-images-digits.svg"
            keep(_digits_figure(pyplot, easel), made["digits"])
    return made


def _methods_figure(pyplot: Any, held: "list[Easel]") -> Any:
    """A row for each method, a mark for each drawing, the mean as a bar."""
    wide = min(2, len(held))
    high = -(-len(held) // wide)
    figure, axes = pyplot.subplots(
        high, wide, figsize=(4.6 * wide, 3.2 * high), layout="constrained", squeeze=False
    )
    for axis in axes.ravel()[len(held) :]:
        axis.set_visible(False)
    for axis, easel in zip(axes.ravel(), held, strict=False):
        names = [name for name in reversed(easel.methods) if easel.mean_ratio(name) is not None]
        axis.barh(names, [easel.mean_ratio(name) for name in names], color="0.8", height=0.6)
        for place, canvas in enumerate(easel.canvases):
            points = [
                (ratio, row) for row, name in enumerate(names) if (ratio := canvas.ratio(name)) is not None
            ]
            axis.plot(
                [x for x, _ in points], [y for _, y in points], MARKS[place % len(MARKS)], color=f"C{place}",
                markersize=3.5, label=canvas.title,
            )  # fmt: skip
        axis.axvline(1, color="black", linewidth=0.6)
        axis.set(title=f"{easel.model} (synthetic)", xlabel="times the baseline's images per second")
        axis.legend(fontsize=6)
    return figure


def _digits_figure(pyplot: Any, easel: "Easel") -> Any:
    """A mark with its name for each method."""
    figure, axis = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for canvas in easel.canvases:
        for name, line in canvas.lines.items():
            if line.images_per_s is None or line.quality is None:
                continue
            kind = "s" if name.startswith("few") else "^" if name.startswith("distilled") else "o"
            axis.plot(line.images_per_s, 100 * line.quality, kind, color="C0", markersize=4)
            axis.annotate(name, (line.images_per_s, 100 * line.quality), (3, 3), textcoords="offset points")
    axis.set_xscale("log")
    axis.set(xlabel="images per second", ylabel="like real digits (%)")
    axis.grid(alpha=0.25, linewidth=0.5)
    return figure
