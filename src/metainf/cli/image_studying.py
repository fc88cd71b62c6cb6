"""metainf study images run | show: every way to draw, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.measuring import STOPPED, minutes, stopped_like_interrupted
from metainf.cli.options import Json, Store
from metainf.cli.show import print_json, table
from metainf.cli.studying import parts_bar, tell_made
from metainf.cli.units import seconds

if TYPE_CHECKING:
    from metainf.api.measuring import Prepared

images = typer.Typer(no_args_is_help=True, help="The study of pictures: every way to draw, on this machine.")


@images.command("run")
def images_run(
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Models of the study; all by default.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="As for measure; those of the study.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Runs of each, interleaved.")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Begin no run that would end after this.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the parts and the time.")] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Run the study of pictures. What the store holds of it is not run again, so a stopped one goes on."""
    from metainf import api

    with api.store(store) as opened:
        prepared, left_out = api.prepare_image_study(opened, model or (), method or (), repeats)
        for name, why in left_out.items():
            typer.echo(f"left out: {name}: {why}", err=True)
        if dry_run:
            _show_parts(prepared, json)
            return
        try:
            with stopped_like_interrupted(), parts_bar(json) as tell:
                found = api.study(prepared, opened, seconds(minutes(time_limit)), tell)
        except KeyboardInterrupt:
            typer.echo("stopped: finished runs are in the store; the same command goes on", err=True)
            raise typer.Exit(STOPPED) from None
    tell_made(found, json)


@images.command("show")
def images_show(
    report: Annotated[Path | None, typer.Option(help="Write the page of the study to this file.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw its figures into this folder.")] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="SQLite file or database URL; else the study that ships.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a study of pictures: that of a store, or without --store the one that ships."""
    from metainf import api

    if store is None:
        records = api.image_study_records()
    else:
        with api.store(store, create=False) as opened:
            records = api.image_study_records(opened)
    if report is not None:
        api.write_image_study(records, report, plots)
    elif plots is not None:
        api.image_study_plots(records, plots)
    rows = api.image_study_rows(records)
    if json:
        print_json(rows)
        return
    head = ("model", "drawing", "method", "images/s", "× baseline", "quality")
    keys = ("model", "drawing", "method", "images_per_s", "over_baseline", "quality")
    table(
        head,
        [[row[key] or row["failed"] if key == "images_per_s" else row[key] for key in keys] for row in rows],
    )


def _show_parts(prepared: "list[tuple[Any, Prepared]]", json: bool) -> None:
    rows = [(p.model, len(s.layout.runs), len(s.layout.done), s.layout.expected_s / 60) for p, s in prepared]
    head = ("model", "runs", "made already", "expected_min")
    if json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
        return
    table(head, rows)
    for part, sweep in prepared:
        for name, why in sweep.layout.refused:
            typer.echo(f"left out: {part.model}, {name}: {why}")
    typer.echo(f"{sum(row[1] for row in rows)} runs, about {sum(row[3] for row in rows):.0f} minutes")
