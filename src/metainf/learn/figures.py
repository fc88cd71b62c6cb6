"""Plots of an evaluation as small, repeatable SVG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metainf.domain import MissingExtra
from metainf.learn.contest import OURS
from metainf.learn.report import title_of

COLOURS = {
    "ours": "#c1272d", "ablation": "#e8a87c", "paper": "#0b6e99", "baseline": "#8a8f98", "bound": "#2e7d32",
    "peer": "#7b4fa3",
}  # fmt: skip


def draw(result: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write the figures into a folder, which is made. Returns their paths by title.

    Raises MissingExtra where matplotlib is not installed.
    """
    pyplot = _pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}
    for source in dict.fromkeys(view["source"] for view in result["views"]):
        views = [view for view in result["views"] if view["source"] == source]
        _save(pyplot, _regrets(pyplot, views), folder / f"regret-{source}.svg")
        made[f"Regret of every chooser on {source}"] = folder / f"regret-{source}.svg"
    for name, title, paint in (
        ("calibration", "Nominal and actual coverage of intervals", _calibration),
        ("predicted", "Predicted against measured", _predicted),
    ):
        drawn = [error for error in result["errors"] if error["points"] and error["learner"] == OURS]
        if drawn:
            _save(pyplot, paint(pyplot, drawn), folder / f"{name}.svg")
            made[title] = folder / f"{name}.svg"
    return made


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("--plots", "plot") from None
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "metainf", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _grid(pyplot: Any, count: int, height: float) -> tuple[Any, list[Any]]:
    wide = min(count, 3)
    figure, axes = pyplot.subplots(
        -(-count // wide), wide, figsize=(4.2 * wide, height * -(-count // wide)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    flat = list(axes.ravel())
    for axis in flat[count:]:
        axis.set_visible(False)
    return figure, flat[:count]


def _regrets(pyplot: Any, views: Sequence[Mapping[str, Any]]) -> Any:
    shown = [
        (view, mark)
        for view in views
        for mark in (("regret", "regret_told") if view["limited"] else ("regret",))
    ]
    figure, axes = _grid(pyplot, len(shown), 3.2)
    for axis, (view, mark) in zip(axes, shown, strict=True):
        lines = sorted(view["choosers"], key=lambda line: -line[mark])
        for place, line in enumerate(lines):
            value, low, high = line[mark], line[f"{mark}_low"], line[f"{mark}_high"]
            axis.plot([low, high], [place, place], color=COLOURS[line["role"]], linewidth=2)
            axis.plot([value], [place], "o", markersize=3, color=COLOURS[line["role"]])
        axis.set_yticks(range(len(lines)), [line["name"] for line in lines])
        title = title_of(view).partition(": ")[2] + (", told" if mark == "regret_told" else "")
        axis.set_title(title, fontsize=7)
        axis.set_xlim(left=0)
    figure.supxlabel("regret, with its 95 % interval over cells")
    return figure


def _calibration(pyplot: Any, errors: Sequence[Mapping[str, Any]]) -> Any:
    figure, (axis,) = _grid(pyplot, 1, 3.6)
    axis.plot([0.45, 1], [0.45, 1], color="#8a8f98", linewidth=1)
    for error in errors:
        if error["on"] == "all":
            nominal, actual = np.array(error["calibration"]).T
            label = f"{error['source']} {error['metric']}, unseen {error['by']}"
            axis.plot(nominal, actual, "o-", markersize=3, linewidth=1, label=label)
    axis.set(xlabel="nominal coverage", ylabel="actual coverage")
    axis.legend(fontsize=5)
    return figure


def _predicted(pyplot: Any, errors: Sequence[Mapping[str, Any]]) -> Any:
    shown = [error for error in errors if error["on"] == "all"]
    figure, axes = _grid(pyplot, len(shown), 3.0)
    for axis, error in zip(axes, shown, strict=True):
        measured, predicted = np.array(error["points"]).T
        ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
        axis.loglog(ends, ends, color="#8a8f98", linewidth=1)
        axis.loglog(measured, predicted, ".", markersize=2, color=COLOURS["ours"])
        axis.set_title(f"{error['source']} {error['metric']}, unseen {error['by']}", fontsize=7)
    figure.supxlabel("measured")
    figure.supylabel("predicted")
    return figure
