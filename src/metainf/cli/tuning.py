"""metainf tune: the best method for this machine, measured."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.measuring import RECIPES, STOPPED, WORKLOADS, minutes, progress, stopped_like_interrupted
from metainf.cli.names import engine_names, model_names, one_of
from metainf.cli.options import MODEL_HELP, Json, Offline, Predictor, Store
from metainf.cli.show import print_json, table
from metainf.cli.units import amount, seconds

if TYPE_CHECKING:
    from metainf.api.tuned import Tuned, Winner
    from metainf.api.tuning import Prospect

AIMS = ("throughput", "latency", "ttft", "tpot", "energy")
"""Repeated from `measure`, which loads more than a help text may (a test compares them)."""


def register(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command()(tune)


def tune(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help=MODEL_HELP, autocompletion=model_names)
    ] = None,
    workload: Annotated[
        str,
        typer.Option(
            "--workload",
            "-w",
            help=f"{', '.join(WORKLOADS)}; a named workload; or a trace file.",
            autocompletion=one_of(*WORKLOADS),
        ),
    ] = "short_chat",
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Engines; by default all that are installed.", autocompletion=engine_names),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="As for measure; by default all that may well be best.", autocompletion=one_of(*RECIPES)
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", "-b", help="Requests in flight.")] = None,
    rate: Annotated[str | None, typer.Option(help="Requests per second, instead of --batch.")] = None,
    requests: Annotated[int | None, typer.Option(help="Requests of a run; 16 or twice --batch.")] = None,
    time_limit: Annotated[str, typer.Option(help="All runs together take no longer.")] = "5m",
    aim: Annotated[
        str, typer.Option(help=f"What is to be best: {', '.join(AIMS)}.", autocompletion=one_of(*AIMS))
    ] = "throughput",
    least_quality: Annotated[
        float, typer.Option(help="Least agreement with the answers of baseline; 0 for no floor.")
    ] = 0.75,
    share: Annotated[float, typer.Option(help="Of the candidates, the most that are run.")] = 1.0,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of one method at most.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed asks the same.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or gpu of this machine.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be run first, and why; start nothing.")
    ] = False,
    predictor: Predictor = None,
    store: Store = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Find the best method for a model and a workload on this machine, by few runs in real engines.

    What is predicted and what the store knows of this machine say which runs are worth making. Every run is
    kept as a record.
    """
    from metainf import api

    limit_s = seconds(minutes(time_limit))
    assert limit_s is not None
    asked = api.Tuning(
        model=model, workload=workload, engines=engine or (), methods=method or (), in_flight=batch,
        rate_per_s=amount(rate), requests=requests, time_limit_s=limit_s,
        least_quality=least_quality if least_quality != 0 else None, aim=aim, share=share, repeats=repeats,
        seed=seed, device=device, predictor=predictor, offline=offline,
    )  # fmt: skip
    with api.store(store) as opened:
        prospect = api.prepare_tuning(asked, opened)
        if dry_run:
            _show_prospect(prospect, json)
            return
        for name, why in prospect.left_out:
            typer.echo(f"left out: {name}: {why}", err=True)
        with stopped_like_interrupted(), progress(json) as tell:
            found = api.tune(prospect, opened, tell)
    print_json(found.as_dict()) if json else _show(found)
    if found.made.interrupted:
        typer.echo("stopped: finished runs are in the store, and the next tuning knows them", err=True)
        raise typer.Exit(STOPPED)
    if found.winner is None:
        raise typer.Exit(1)


def _show_prospect(prospect: "Prospect", json: bool) -> None:
    rows = prospect.rows()
    if json:
        told = {"aim": prospect.contest.aim.name, "unit": prospect.contest.aim.unit}
        known = {
            "own_runs": len(prospect.own), "study_runs": len(prospect.lessons), "study_of": prospect.teachers
        }  # fmt: skip
        left_out = dict(prospect.left_out)
        print_json({**told, "candidates": rows, "known_before": known, "left_out": left_out})
        return
    unit = prospect.contest.aim.unit
    head = ("method", "engine", unit, "× baseline", "known from", "seconds", "why it would be run")
    keys = ("method", "engine", "expected", "ratio", "known_from", "expected_s", "why")
    table(head, [[_joined(row[key]) for key in keys] for row in rows])
    for name, why in prospect.left_out:
        typer.echo(f"left out: {name}: {why}")
    for said in _known_before(prospect, rows):
        typer.echo(said)
    typer.echo(
        f"{len(rows)} candidates; those with a reason would be run, in this order, if all went as expected."
    )


def _known_before(prospect: "Prospect", rows: list[dict[str, Any]]) -> list[str]:
    """Where what is expected comes from, in sentences."""
    told = []
    if prospect.own:
        told.append(f"own runs: {len(prospect.own)} runs of the store speak of these methods.")
    if any("arithmetic" in row["known_from"] for row in rows):
        told.append(
            "arithmetic: the predictor's history does not know these engines, or this device; it tells how "
            "methods compare by what they compute and move."
        )
    if prospect.lessons:
        machines = ", ".join(prospect.teachers)
        told.append(
            f"study: {len(prospect.lessons)} results of the study that ships ({machines}) tell how methods "
            "compare; how fast this machine is they do not tell."
        )
    return told


def _joined(value: Any) -> Any:
    """A list in words."""
    return ", ".join(value) if isinstance(value, list) else value


def _show(found: "Tuned") -> None:
    unit = found.contest.aim.unit
    head = ("method", "engine", unit, "agrees", "runs", "seconds", "")
    keys = ("method", "engine", "value", "quality", "runs", "seconds", "wrong")
    table(head, [[_short(row[key]) for key in keys] for row in found.runs()])
    winner, search = found.winner, found.made.search
    ran = len({place for place, _ in search.runs})
    typer.echo(
        f"{ran} of {len(search.candidates)} candidates were run, in {search.spent_s / 60:.1f} minutes: "
        f"{found.made.verdict.why}."
    )
    for said in found.made.warnings:
        typer.echo(f"Mind: {said}.")
    if winner is None:
        typer.echo("No method is proven: nothing that was run worked and met the least quality.")
    else:
        _show_winner(winner, unit)
    typer.echo(f"{len(found.made.records)} records stored as {found.campaign}.")


def _show_winner(winner: "Winner", unit: str) -> None:
    times = "once" if winner.runs == 1 else f"{winner.runs} times"
    typer.echo(f"\nBest: {winner.name} in {winner.engine}: {winner.value:.4g} {unit}, measured {times}.")
    if winner.ratio is not None and winner.baseline is not None:
        typer.echo(f"{winner.ratio:.2f} × baseline, which gave {winner.baseline:.4g} {unit}.")
    if winner.quality is not None:
        typer.echo(f"Its greedy answers agree with baseline's to {winner.quality:.0%}.")
    typer.echo(
        f"No other candidate is better by more than 1 % with a chance of {winner.ahead:.0%}; "
        f"the best of all is expected to be {winner.loss:.1%} better."
    )
    typer.echo(f"\n{winner.command}")
    for note in winner.notes:
        typer.echo(f"Note: {note}.")


def _short(value: Any) -> Any:
    """A long reason by its beginning."""
    return value if not isinstance(value, str) or len(value) <= 80 else value[:79] + "…"
