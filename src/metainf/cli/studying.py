"""metainf study run | show: every method on every workload, and what came of it."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.measuring import STOPPED, WORKLOADS, minutes, progress, stopped_like_interrupted
from metainf.cli.names import engine_names, one_of
from metainf.cli.options import MODEL_HELP, Json, Store
from metainf.cli.show import print_json, table
from metainf.cli.units import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metainf.api.studying import Studied
    from metainf.domain import Record
    from metainf.store import Store as Records

    Parts = tuple[Sequence[Any], Mapping[str, str]]

Report = Annotated[Path | None, typer.Option(help="Write the page of the study to this file.")]
Plots = Annotated[Path | None, typer.Option(help="Draw its figures into this folder.")]
Shown = Annotated[
    str | None, typer.Option("--store", help="SQLite file or database URL; else the study that ships.")
]
studies = typer.Typer(no_args_is_help=True, help="Compare every method on every workload, on this machine.")


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    from metainf.cli.image_studying import images

    studies.add_typer(images, name="images")
    app.add_typer(studies, name="study")


@studies.command("run")
def study_run(
    engine: Annotated[
        list[str] | None, typer.Option(help="Engines; those of a CPU.", autocompletion=engine_names)
    ] = None,
    workload: Annotated[
        list[str] | None, typer.Option("--workload", "-w", help="All.", autocompletion=one_of(*WORKLOADS))
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="As for measure; all by default.")] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", "-b", help="Requests in flight.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests of a run.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved.")] = 1,
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP)] = None,
    time_limit: Annotated[str | None, typer.Option(help="Begin no run that would end after this.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the parts and the time.")] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Run the study. What the store holds of it is not run again, so a stopped one goes on."""
    from metainf import api

    grid = api.study_grid(
        engines=engine, workloads=workload, methods=method, in_flight=batch, requests=requests
    )

    def prepare(opened: "Records") -> "Parts":
        return api.prepare_study(grid, opened, model, repeats)

    run_parts(store, prepare, time_limit, _show_parts if dry_run else None, json)


@studies.command("show")
def study_show(
    report: Report = None,
    plots: Plots = None,
    store: Shown = None,
    json: Json = False,
) -> None:
    """Show a study: that of a store, or without --store the one that ships."""
    from metainf import api

    records = read_from(store, api.study_records)
    if report is not None:
        api.write_study(records, report, plots)
    elif plots is not None:
        api.study_plots(records, plots)
    rows = api.study_winners(records)
    if json:
        print_json(rows)
        return
    head = ("engine", "workload", "in flight", "best", "tokens/s", "× baseline")
    table(head, [tuple(row.values()) for row in rows])


def _show_parts(prepared: Any, json: bool) -> None:
    rows = [
        (p.engine, p.in_flight, len(s.layout.runs), len(s.layout.done), s.layout.expected_s / 60)
        for p, s in prepared
    ]
    head = ("engine", "in flight", "runs", "made already", "expected_min")
    if json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
        return
    table(head, rows)
    typer.echo(f"{sum(row[2] for row in rows)} runs, about {sum(row[4] for row in rows):.0f} minutes")


def run_parts(
    store: str | None,
    prepare: "Callable[[Records], Parts]",
    time_limit: str | None,
    show: "Callable[[Any, bool], None] | None",
    json: bool,
) -> None:
    """Prepare the parts of a study over a store, then run them, or only `show` them."""
    from metainf import api

    with api.store(store) as opened:
        prepared, left_out = prepare(opened)
        for name, why in left_out.items():
            typer.echo(f"left out: {name}: {why}", err=True)
        if show is not None:
            show(prepared, json)
            return
        try:
            with stopped_like_interrupted(), parts_bar(json) as tell:
                found = api.study(prepared, opened, seconds(minutes(time_limit)), tell)
        except KeyboardInterrupt:
            typer.echo("stopped: finished runs are in the store; the same command goes on", err=True)
            raise typer.Exit(STOPPED) from None
    tell_made(found, json)


def read_from(store: str | None, read: "Callable[..., list[Record]]") -> "list[Record]":
    """What `read` finds in a store, or, where none is named, in the study that ships."""
    from metainf import api

    if store is None:
        return read()
    with api.store(store, create=False) as opened:
        return read(opened)


def tell_made(found: "Studied", json: bool) -> None:
    """How many runs a study made, and how many it did not."""
    made = len(found.records)
    failed = sum(record.outcome.kind == "failed" for record in found.records)
    if json:
        print_json({"made": made, "failed": failed, "resumed": found.resumed, "unmade": found.unmade})
        return
    left = f", {found.unmade} left for want of time" if found.unmade else ""
    typer.echo(f"{made} runs made, {failed} of them failed; {found.resumed} were there already{left}.")


@contextmanager
def parts_bar(quiet: bool) -> "Iterator[Callable[[str, Any], None]]":
    """The bar of a sweep, told which part runs."""
    from dataclasses import replace

    with progress(quiet) as tell:
        yield lambda part, now: tell(replace(now, words=f"{part}: {now.words}"))
