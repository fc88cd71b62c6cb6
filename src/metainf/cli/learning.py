"""metainf train | evaluate | importance | describe: the predictor itself."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from metainf.cli.show import print_json, table

Store = Annotated[
    str | None, typer.Option("--store", help="SQLite file or database URL.", envvar="METAINF_STORE")
]
CHOOSER_COLUMNS = ("name", "regret", "interval", "regret_told", "top1", "f1", "gap", "infeasible")
ERROR_COLUMNS = ("source", "by", "learner", "metric", "rows", "median_ape", "coverage", "width")
Json = Annotated[bool, typer.Option("--json", help="Print data instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    for command in (train, evaluate, importance, describe):
        app.command()(command)


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the predictor goes.")] = Path(
        "predictor.metainf"
    ),
    store: Store = None,
) -> None:
    """Train the predictor on the records of a store. The same store gives the same file."""
    from metainf import api

    manifest = api.train(api.store(store), output)
    typer.echo(f"{output}: trained on {manifest['records']} records ({manifest['records_hash']})")


def evaluate(
    store: Store = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="model, hardware, workload or time.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the results page (Markdown) here.")] = None,
    json: Json = False,
) -> None:
    """Judge every learner on settings it has never seen."""
    from metainf import api

    result = api.evaluate(
        api.store(store), source or None, by or ["model", "hardware"], partial(typer.echo, err=True)
    )
    if report:
        api.write_report(result, report)
    if json:
        print_json(result)
        return
    for section in result["views"]:
        rows = [[chooser[key] for key in CHOOSER_COLUMNS] for chooser in section["choosers"]]
        title = f"{section['source']}: {section['view']}, leave one {section['by']} out"
        table(CHOOSER_COLUMNS, rows, title)
    table(ERROR_COLUMNS, [[error[key] for key in ERROR_COLUMNS] for error in result["errors"]])


def importance(
    predictor: Annotated[
        Path | None, typer.Option(help="A trained predictor; the shipped one by default.")
    ] = None,
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
    model: str,
    hardware: Annotated[str | None, typer.Option(help="Hardware, such as 2xL4.")] = None,
    workload: Annotated[str | None, typer.Option(help="A named workload or a trace file.")] = None,
    json: Json = False,
) -> None:
    """The text from which the language-model embedding is made."""
    from metainf import api

    text = api.describe(model, hardware, workload)
    print_json({"description": text}) if json else typer.echo(text)
