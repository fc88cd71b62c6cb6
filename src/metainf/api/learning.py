"""Train the predictor, judge learners, and show what a predictor leans on."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf.domain import Record

if TYPE_CHECKING:
    from metainf.store import Store


def train(opened: "Store", output: Path) -> dict[str, Any]:
    """Train on all records of a store and write the predictor. Returns its manifest. Deterministic."""
    from metainf import __version__
    from metainf.learn.artifact import Artifact
    from metainf.learn.nearest import index
    from metainf.learn.predictor import fit
    from metainf.learn.table import table

    records = sorted(opened.query(), key=lambda record: record.id)
    rows = table(records)
    state, trees = fit(rows)
    state["nearest"] = index(rows, records)
    manifest = {
        "metainf": __version__,
        "records": len(records),
        "records_hash": _hash(records),
        "sources": _sources(records),
        "known": state["known"],
        "versions": _versions(),
    }
    data = Artifact(manifest, state, trees).dump()
    part = output.with_name(output.name + ".part")
    part.write_bytes(data)
    part.replace(output)
    return manifest


def evaluate(
    opened: "Store",
    sources: Sequence[str] | None,
    by: Sequence[str],
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Judge every chooser and learner on held-out groups, per source; `tell` hears of progress."""
    from metainf.learn.evaluate import evaluate_table
    from metainf.learn.table import table

    return evaluate_table(table(opened.query()), sources, by, tell)


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write the results page in Markdown."""
    from metainf.learn.report import page

    path.write_text(page(result), encoding="utf-8")


def importance(path: Path | None = None, plot: Path | None = None) -> list[tuple[str, str, float]]:
    """(target, feature, share), largest first within each target."""
    from metainf.api.choosing import load_predictor

    rows: list[tuple[str, str, float]] = load_predictor(path).importance()
    if plot is not None:
        _plot(rows, plot)
    return rows


def _plot(rows: list[tuple[str, str, float]], path: Path) -> None:
    from metainf.domain import MissingExtra

    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("--plot", "plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    targets = list(dict.fromkeys(row[0] for row in rows))
    figure, axes = pyplot.subplots(
        1, len(targets), figsize=(5 * len(targets), 5), layout="constrained", squeeze=False
    )
    for axis, target in zip(axes[0], targets, strict=True):
        top = [(name, share) for t, name, share in rows if t == target][:15][::-1]
        axis.barh([name for name, _ in top], [share for _, share in top])
        axis.set(title=target, xlabel="share")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _hash(records: Sequence[Record]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for record in records:
        digest.update(record.id.encode())
    return f"b2:{digest.hexdigest()}"


def _sources(records: Sequence[Record]) -> list[dict[str, Any]]:
    counted = Counter((r.provenance.source, r.provenance.licence or "not stated") for r in records)
    return [{"source": s, "licence": licence, "records": n} for (s, licence), n in sorted(counted.items())]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("numpy", "scipy", "xgboost-cpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
