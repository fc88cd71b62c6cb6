"""Where a picture goes, checked before the work, and the library that draws it."""

from pathlib import Path
from typing import Any

from metainf.domain import BadInput, Candidate, MissingExtra, Selection

ENDINGS = (".png", ".svg", ".pdf")
MARKS = ("o", "s", "^", "D", "v", "P", "X")


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
