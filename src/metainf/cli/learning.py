"""metainf train | evaluate | importance | describe: the predictor itself."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from metainf.cli.names import hardware_names, model_names
from metainf.cli.options import MODEL_HELP, Json, Offline, Predictor, Ray, Store, WorkloadName
from metainf.cli.progress import spinner
from metainf.cli.show import print_json, table

CHOOSER_COLUMNS = (
    "name", "regret", "regret_low", "regret_high", "regret_told", "top1_clear", "f1_clear", "gap",
    "infeasible", "acceleration",
)  # fmt: skip
ERROR_COLUMNS = ("source", "by", "learner", "metric", "rows", "median_ape", "coverage", "width")


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(importance)
    app.command()(describe)


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the predictor goes.")] = Path(
        "predictor.metainf"
    ),
    store: Store = None,
    json: Json = False,
) -> None:
    """Train the predictor on the records of a store. The same store gives the same file."""
    from metainf import api

    with spinner("training", json) as tell:
        manifest = api.train(api.store(store, create=False), output, tell)
    if json:
        print_json(manifest)
        return
    typer.echo(f"{output}: trained on {manifest['records']} records ({manifest['records_hash']})")


def evaluate(
    store: Store = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="model, hardware, workload, time or rolling.")] = None,
    chooser: Annotated[
        list[str] | None, typer.Option(help="Only these choosers, and the single best.")
    ] = None,
    quality: Annotated[
        str, typer.Option(help="listed: as chosen for each source; any: trade quality; same: never.")
    ] = "listed",
    most_folds: Annotated[int, typer.Option(min=2, help="Deal more groups than this to so many folds.")] = 8,
    text: Annotated[bool, typer.Option(help="Also judge language-model vectors (extra: text).")] = False,
    peer: Annotated[
        Path | None, typer.Option(help="Parquet table of another tool's predictions to judge beside.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    ray: Ray = None,
    resume: Annotated[
        Path | None, typer.Option(help="Keep finished parts in this file, and go on from there.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the results page (Markdown) here.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw figures (SVG) into this folder.")] = None,
    json: Json = False,
) -> None:
    """Judge every learner on settings it has never seen."""
    from metainf import api

    plan = api.evaluation_plan(
        sources=source or (), by=by or ("model", "hardware"), choosers=chooser or (), quality=quality,
        most_folds=most_folds, jobs=jobs, resume=resume, ray=ray,
    )  # fmt: skip
    if report is not None and not report.absolute().parent.is_dir():
        raise typer.BadParameter(f"expected a folder at {report.absolute().parent}", param_hint="--report")
    result = api.evaluate(api.store(store, create=False), plan, partial(typer.echo, err=True), text, peer)
    if report:
        api.write_report(result, report, plots)
    elif plots:
        api.draw_figures(result, plots)
    if json:
        print_json(result)
        return
    for section in result["views"]:
        rows = [[chooser[key] for key in CHOOSER_COLUMNS] for chooser in section["choosers"]]
        title = f"{section['source']}: {section['view']}, leave one {section['by']} out"
        table(CHOOSER_COLUMNS, rows, title)
        for said in section["verdict"]:
            typer.echo(said)
    table(ERROR_COLUMNS, [[error[key] for key in ERROR_COLUMNS] for error in result["errors"]])
    for note in result["notes"]:
        typer.echo(f"not run: {note['source']}, {note['view']}, {note['chooser']}: {note['why']}", err=True)


def importance(
    predictor: Predictor = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture here (.png, .svg).")] = None,
    json: Json = False,
) -> None:
    """What the predictor leans on: causes of the time, and related runs (shares)."""
    from metainf import api

    rows = api.importance(predictor, plot)
    if json:
        print_json([{"target": t, "feature": f, "share": s} for t, f, s in rows])
        return
    table(("target", "feature", "share"), rows)


def describe(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=model_names)],
    hardware: Annotated[
        str | None, typer.Option(help="Hardware, such as 2xL4.", autocompletion=hardware_names)
    ] = None,
    workload: WorkloadName = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """The text from which the language-model embedding is made."""
    from metainf import api

    text = api.describe(model, hardware, workload, offline)
    print_json({"description": text}) if json else typer.echo(text)
