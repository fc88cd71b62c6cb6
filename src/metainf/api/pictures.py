"""Where a picture goes, checked before the work, and the library that draws it."""

from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MissingExtra

ENDINGS = (".png", ".svg", ".pdf")


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
