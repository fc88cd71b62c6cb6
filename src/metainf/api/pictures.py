"""Where a picture goes, checked before the work, and the library that draws it."""

import re
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf.domain import BadInput, Candidate, MissingExtra, Record, Selection

if TYPE_CHECKING:
    from metainf.study.bench import Bench

ENDINGS = (".png", ".svg", ".pdf")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")


def check_picture(path: Path) -> None:
    """Raise BadInput for an ending that cannot be drawn or a folder that is not there, MissingExtra
    where the drawing library is not installed."""
    if path.suffix.lower() not in ENDINGS:
        raise BadInput(f"--plot {path}: expected an ending of {', '.join(ENDINGS)}, found {path.suffix!r}")
    if not path.parent.is_dir():
        raise BadInput(f"--plot {path}: expected a folder at {path.parent}, found none: make it first")
    drawing()


def drawing() -> Any:
    """matplotlib's pyplot without a display. The same figure gives the same bytes."""
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("--plot", "plot") from None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "metainf"
    from matplotlib import pyplot

    return pyplot


def keep(figure: Any, path: Path) -> None:
    """Write a figure and let go of it. Raises BadInput where the file cannot be written."""
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    try:
        figure.savefig(path, dpi=150, metadata=dated.get(path.suffix.lower()))
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}: give a file in a writable folder") from None
    drawing().close(figure)


def pareto_plot(found: Selection, path: Path) -> Path:
    """Picture of throughput per dollar against time per output token: a colour for each hardware, a mark for
    each engine, and the choices that nothing beats in both joined, with their 90 % intervals.

    Raises BadInput where no candidate has a price, a rate and a time per token.
    """
    from metainf.selection import pareto

    check_picture(path)
    drawn = [
        c
        for c in found.ranked
        if c.usd_per_hour and {"tpot_s", "output_tokens_per_s"} <= set(c.prediction.metrics)
    ]
    if not drawn:
        raise BadInput("--plot: expected candidates with a price, a rate and a time per token, found none")
    figure, axes = drawing().subplots(figsize=(8, 5), layout="constrained")
    machines = {name: f"C{place}" for place, name in enumerate(sorted({_machine(c) for c in drawn}))}
    engines = {
        name: MARKS[place % len(MARKS)] for place, name in enumerate(sorted({c.method.engine for c in drawn}))
    }
    for c in drawn:
        x, y = _point(c)
        axes.plot(x[0], y[0], engines[c.method.engine], color=machines[_machine(c)], alpha=0.5, markersize=5)
    best = sorted(pareto(drawn), key=lambda c: _point(c)[0][0])
    for c in best:
        x, y = _point(c)
        axes.errorbar(
            x[0], y[0], xerr=[[x[0] - x[1]], [x[2] - x[0]]], yerr=[[y[0] - y[1]], [y[2] - y[0]]],
            fmt=engines[c.method.engine], color=machines[_machine(c)], capsize=2, markeredgecolor="black",
        )  # fmt: skip
    axes.plot([_point(c)[0][0] for c in best], [_point(c)[1][0] for c in best], color="black", linewidth=0.8)
    for name, colour in machines.items():
        axes.plot([], [], "o", color=colour, label=name)
    for name, mark in engines.items():
        axes.plot([], [], mark, color="grey", label=name)
    axes.set(xlabel="time per output token (ms)", ylabel="million output tokens per dollar", ylim=(0, None))
    axes.set_title(
        f"{found.model.name}: predicted; joined: the best trade-offs, with 90 % intervals", fontsize=10
    )
    axes.legend(fontsize=7)
    keep(figure, path)
    return path


def _machine(candidate: Candidate) -> str:
    return f"{candidate.hardware.count} × {candidate.hardware.device.name}"


def _point(candidate: Candidate) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Milliseconds per token and million tokens per dollar, each with its bounds."""
    time, rate = (candidate.prediction.metrics[name] for name in ("tpot_s", "output_tokens_per_s"))
    per = 3600e-6 / (candidate.usd_per_hour or 1.0)
    x = (time.value * 1e3, time.low * 1e3, time.high * 1e3)
    return x, (rate.value * per, rate.low * per, rate.high * per)


def study_plots(records: Iterable[Record], folder: Path) -> dict[str, Path]:
    """Pictures of a study, `study-ENGINE.svg` for each engine: one panel for each workload, output tokens per
    second by requests in flight, one line for each method. Returns their paths by label.

    The folder is made. Raises BadInput where the records hold no such grid, MissingExtra where the drawing
    library is not installed.
    """
    from metainf.study.bench import labels
    from metainf.study.benches import benches

    held = benches(records)
    pyplot = drawing()
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    with pyplot.rc_context({"svg.fonttype": "none", "font.size": 8}):
        for label, bench in zip(labels(held), held, strict=True):
            path = folder / f"study-{re.sub(r'[^a-z0-9.]+', '-', label.lower()).strip('-')}.svg"
            keep(_study_figure(pyplot, bench), path)
            made[label] = path
    return made


def _study_figure(pyplot: Any, bench: "Bench") -> Any:
    workloads = list(dict.fromkeys(cell.workload for cell in bench.cells))
    wide = min(4, len(workloads))
    high = -(-len(workloads) // wide)
    figure, axes = pyplot.subplots(
        high, wide, figsize=(2.9 * wide, 2.5 * high + 0.6), layout="constrained", squeeze=False
    )
    for axis, workload in zip_longest(axes.ravel(), workloads):
        axis.set_visible(workload is not None)
        if workload is not None:
            _study_panel(axis, bench, workload)
    drawn = {line.get_label(): line for axis in axes.ravel() for line in axis.get_lines()}
    shown = [name for name in bench.methods if name in drawn]
    if shown:
        handles = [drawn[name] for name in shown]
        figure.legend(
            handles, shown, loc="outside lower center", ncols=min(len(shown), 2 * wide), handlelength=4
        )
    figure.supylabel("output tokens per second")
    return figure


def _study_panel(axis: Any, bench: "Bench", workload: str) -> None:
    """One line for each method, with a shade, a mark and a dash of its own so that it reads in grey too."""
    cells = sorted((cell for cell in bench.cells if cell.workload == workload), key=lambda c: c.in_flight)
    shades = drawing().get_cmap("cividis")
    for place, name in enumerate(bench.methods):
        drawn = [(cell.in_flight, cell.lines[name]) for cell in cells if cell.rate(name) is not None]
        if not drawn:
            continue
        count = len(bench.methods)
        rank = place // 2 + (place % 2) * -(-count // 2)
        shade = shades(0.85 * rank / max(1, count - 1))
        x = [in_flight for in_flight, _ in drawn]
        axis.vlines(
            x, [line.low for _, line in drawn], [line.high for _, line in drawn], shade, linewidth=0.8
        )
        axis.plot(
            x, [line.output_tokens_per_s for _, line in drawn], MARKS[place % len(MARKS)], label=name,
            linestyle=DASHES[place % len(DASHES)], color=shade, linewidth=1, markersize=3.5,
        )  # fmt: skip
    levels = sorted({cell.in_flight for cell in cells})
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(levels, [str(level) for level in levels])
    axis.minorticks_off()
    axis.yaxis.set_minor_locator(drawing().matplotlib.ticker.LogLocator(subs="auto"))
    axis.yaxis.set_major_formatter(drawing().matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set(title=workload, xlabel="requests in flight")
    axis.grid(alpha=0.25, linewidth=0.5)
