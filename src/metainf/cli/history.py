"""metainf import | records: the store of measured runs."""

from pathlib import Path
from typing import Annotated

import typer

from metainf.cli.names import engine_names, format_names, hardware_names, model_names
from metainf.cli.options import Json, Offline, Store
from metainf.cli.progress import bar
from metainf.cli.show import print_json, table

records = typer.Typer(help="The records in the store.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("import")(import_)
    app.add_typer(records, name="records")


def import_(
    paths: Annotated[list[Path], typer.Argument(help="Result files of benchmark tools.")],
    format: Annotated[
        str | None, typer.Option(help="Format; found out when not given.", autocompletion=format_names)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model, where the file does not say.", autocompletion=model_names)
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Hardware, where the file does not say.", autocompletion=hardware_names)
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Engine, where the file does not say.", autocompletion=engine_names)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be kept; store nothing.")
    ] = False,
    store: Store = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Read result files into the store. Each row is kept or rejected with a reason."""
    from metainf import api

    said = {"model": model, "hardware": hardware, "engine": engine}
    given = {name: value for name, value in said.items() if value is not None}
    into = None if dry_run else api.store(store)
    with bar("rows read", None, json) as tell:
        results = [api.import_file(path, format, given, into, offline, tell) for path in paths]
    if json:
        print_json([result.as_dict() for result in results])
        return
    head = ("file", "format", "read", "new", "known", "rejected")
    table(head, [(r.path, r.format, r.read, r.new, r.known, r.rejected) for r in results])
    reasons = [(r.path, count, reason) for r in results for reason, count in r.reasons.items()]
    if reasons:
        table(("file", "rows", "rejected because"), reasons)


@records.command("list")
def records_list(store: Store = None, json: Json = False) -> None:
    """What the store holds, by source."""
    from metainf import api

    rows = api.sources(store)
    if json:
        print_json(rows)
        return
    table(
        ("source", "records", "failed", "models", "devices"),
        [(r["source"], r["records"], r["failed"], r["models"], r["devices"]) for r in rows],
    )


@records.command("export")
def records_export(
    path: Annotated[Path, typer.Argument(help="Where to: .parquet or .jsonl.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Write all records to a .parquet or .jsonl file."""
    from metainf import api

    opened = api.store(store, create=False)
    with bar("records written", opened.count(), json) as tell:
        written = api.export(opened, path, tell)
    if json:
        print_json({"path": str(path), "written": written})
        return
    typer.echo(f"{written} records written to {path}")


@records.command("merge")
def records_merge(
    path: Annotated[Path, typer.Argument(help="An exported file or another store.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Add the records of an exported file or of another store."""
    from metainf import api

    if "://" not in str(path) and not path.exists():
        from metainf.domain import BadInput

        raise BadInput(f"expected an exported file or a store at {path}, found nothing: check the path")
    with bar("records read", None, json) as tell:
        added = api.store(store).merge(path, lambda batch: tell(batch.new + batch.known))
    if json:
        print_json({"new": added.new, "known": added.known})
        return
    typer.echo(f"{added.new} new, {added.known} known already")
