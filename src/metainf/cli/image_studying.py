"""metainf study images run | show: every way to draw, on this machine."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.options import Json, Store
from metainf.cli.show import print_json, table
from metainf.cli.studying import Plots, Report, Shown, read_from, run_parts

if TYPE_CHECKING:
    from metainf.api.measuring import Prepared
    from metainf.cli.studying import Parts
    from metainf.store import Store as Records

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

    def prepare(opened: "Records") -> "Parts":
        return api.prepare_image_study(opened, model or (), method or (), repeats)

    run_parts(store, prepare, time_limit, _show_parts if dry_run else None, json)


@images.command("show")
def images_show(
    report: Report = None,
    plots: Plots = None,
    store: Shown = None,
    json: Json = False,
) -> None:
    """Show a study of pictures: that of a store, or without --store the one that ships."""
    from metainf import api

    records = read_from(store, api.image_study_records)
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
