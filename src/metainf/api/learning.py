"""Train the predictor, judge learners, and show what a predictor leans on."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf.domain import BadInput, Record

if TYPE_CHECKING:
    from metainf.learn.evaluate import Plan
    from metainf.store import Store

SINGLE = ("metainf-gateway",)
"""Sources whose records are single requests beside others, and no runs at a steady load."""


def train(opened: "Store", output: Path, tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Train on a store's records and write the predictor. Returns its manifest. Deterministic.

    What this project's own measuring ran on a device corrects every prediction on that device; where such
    runs are all there is, or the rest is too little, it is the shipped predictor that they correct.
    What a gateway saw of single requests is left out. `tell` hears what is being done. Raises BadInput before
    the work where `output` has no folder.
    """
    from metainf import __version__
    from metainf.learn.artifact import Artifact

    if not output.parent.is_dir():
        raise BadInput(f"expected a folder for {output.name} at {output.parent}, found none: make it first")
    tell("reading the records of the store")
    found = (record for record in opened.query() if record.provenance.source not in SINGLE)
    records = sorted(found, key=lambda record: record.id)
    manifest: dict[str, Any] = {
        "metainf": __version__,
        "records": len(records),
        "records_hash": _hash(records),
        "sources": _sources(records),
        "versions": _versions(),
    }
    state, trees, more = _learnt(records, tell)
    data = Artifact(manifest | more, state, trees).dump()
    part = output.with_name(output.name + ".part")
    part.write_bytes(data)
    part.replace(output)
    return manifest | more


def _learnt(
    records: Sequence[Record], tell: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, bytes], dict[str, Any]]:
    """State, tree models, and what the manifest tells beside the records."""
    import numpy as np

    from metainf.api.predictable import why_not
    from metainf.learn import own_history
    from metainf.learn.artifact import read
    from metainf.learn.nearest import index, joined
    from metainf.learn.predictor import fit
    from metainf.learn.table import table

    tell(f"laying out {len(records):,} records as columns")
    rows = table(records)
    own = [record for record in records if own_history.is_own(record)]
    alone = [own_history.is_own(one) and why_not(one.setting.hardware) is not None for one in records]
    rest = rows.take(np.flatnonzero(~np.array(alone)))
    more: dict[str, Any] = {"own_runs": len(own)} if own else {}
    tell(f"training on {len(rest):,} records" + (f", with {len(own):,} own runs" if own else ""))
    try:
        state, trees = fit(rest, rows)
        tell("indexing the measured records")
        state["nearest"] = index(rows, records)
    except BadInput as error:
        if not own:
            raise
        tell(f"the shipped predictor is corrected: {error}")
        shipped = read(None)
        state, trees = dict(shipped.state), shipped.trees
        state["nearest"] = joined(state.get("nearest", {}), index(rows, records))
        more["base"] = {key: shipped.manifest.get(key) for key in ("metainf", "records", "records_hash")}
    if own:
        state["own"] = own_history.dump(own_history.merged(own))
    return state, trees, more | {"known": state["known"]}


def evaluation_plan(**fields: Any) -> "Plan":
    """What to judge, by the fields of `metainf.learn.evaluate.Plan`. Raises BadInput for a wrong one."""
    from metainf.learn.evaluate import plan_of

    return plan_of(**fields)


def evaluate(
    opened: "Store",
    plan: "Plan | None" = None,
    tell: Callable[[str], None] = lambda _: None,
    text: bool = False,
    peer: Path | None = None,
) -> dict[str, Any]:
    """Judge every chooser and learner on held-out groups, per source; `tell` hears of progress.

    plan: see `evaluation_plan`. text: also judge language-model vectors (needs the text
    extra and its weights). peer: a Parquet table of another tool's predictions for runs of the store.
    """
    import numpy as np

    from metainf.learn.evaluate import Plan, evaluate_table, wanted_sources
    from metainf.learn.peers import attach
    from metainf.learn.table import TEXTS, table

    wanted = plan or Plan()
    rows = table(opened.query(), texts=text)
    words = None
    if text:
        from metainf.embed.minilm import MiniLM

        kept = np.isin(rows.keys["source"], wanted_sources(rows, wanted.sources))
        told = sorted({line for key in TEXTS for line in rows.keys[key][kept].tolist()})
        tell(f"embedding {len(told)} descriptions")
        words = dict(zip(told, MiniLM().embed(told), strict=True))
    if peer is not None:
        rows = attach(rows, _parquet(peer))
    return evaluate_table(rows, wanted, words, tell)


def _parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        found: list[dict[str, Any]] = read_table(path).to_pylist()
    except (OSError, ArrowException) as error:
        raise BadInput(f"expected a Parquet table in {path}: {error}") from None
    return found


def write_report(result: dict[str, Any], path: Path, plots: Path | None = None) -> None:
    """Write the results page in Markdown, and its figures into the folder `plots` where one is given."""
    from metainf.learn.report import page

    drawn = {} if plots is None else draw_figures(result, plots)
    shown = {title: beside(figure, path.parent) for title, figure in drawn.items()}
    path.write_text(page(result, shown), encoding="utf-8")


def draw_figures(result: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Draw the figures of an evaluation as SVG files into a folder. Paths by title."""
    from metainf.learn.figures import draw

    return draw(result, folder)


def beside(path: Path, folder: Path) -> str:
    """A file's path as a page in the folder writes it."""
    import os.path

    return Path(os.path.relpath(path, folder)).as_posix()


def importance(path: Path | None = None, plot: Path | None = None) -> list[tuple[str, str, float]]:
    """(target, feature, share), largest first within each target."""
    from metainf.api.choosing import load_predictor

    rows: list[tuple[str, str, float]] = load_predictor(path).importance()
    if plot is not None:
        _plot(rows, plot)
    return rows


def _plot(rows: list[tuple[str, str, float]], path: Path) -> None:
    from metainf.api.pictures import check_picture, drawing, keep

    check_picture(path)
    targets = list(dict.fromkeys(row[0] for row in rows))
    figure, axes = drawing().subplots(
        1, len(targets), figsize=(5 * len(targets), 5), layout="constrained", squeeze=False
    )
    for axis, target in zip(axes[0], targets, strict=True):
        top = [(name, share) for t, name, share in rows if t == target][:15][::-1]
        axis.barh([name for name, _ in top], [share for _, share in top])
        axis.set(title=target, xlabel="share")
    keep(figure, path)


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
