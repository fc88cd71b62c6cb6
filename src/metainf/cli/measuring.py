"""metainf measure: real engines on this machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.names import engine_names, hardware_names, model_names, one_of
from metainf.cli.options import MODEL_HELP, E2e, Json, Offline, Ray, Store, Tpot, Ttft
from metainf.cli.show import print_json, table
from metainf.cli.units import amount, seconds

if TYPE_CHECKING:
    from metainf.api.measured import Measurement
    from metainf.api.measuring import Prepared

STOPPED = 130
WORKLOADS = (
    "short_chat", "shared_prefix", "shared_prefix_warm", "long_prompt", "long_generation", "copy_edit",
    "mixed",
)  # fmt: skip
RECIPES = (
    "baseline",
    "static-8",
    "continuous-8",
    "chunked-256",
    "prefix",
    "lookup",
    "q8_0",
    "kv-q8_0",
    "all",
)
DRAWN = ("bf16", "sdpa", "fused-qkv", "int8", "compile", "channels-last", "distilled", "steps-8", "tiny-vae")
"""All repeated from `measure`, which loads more than a help text may (a test compares them)."""


def register(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command()(measure)


def measure(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help=MODEL_HELP, autocompletion=model_names)
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(
            "--workload",
            "-w",
            help=f"{', '.join(WORKLOADS)}; a named workload; a trace file; or image:256x256@20.",
            autocompletion=one_of(*WORKLOADS),
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Engine; llama.cpp, or diffusers for pictures.", autocompletion=engine_names),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(RECIPES)}, of pictures {', '.join(DRAWN)}; joined with +; a method as JSON; or "
            "@file of select --json.",
            autocompletion=one_of(*RECIPES),
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option("--batch", "-b", help="Requests in flight, or pictures of a batch; several are swept."),
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Requests per second, instead of --batch.")] = None,
    requests: Annotated[
        int | None, typer.Option(help="Requests of a run; 16 or twice --batch (pictures: twice --batch).")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Runs of each method, interleaved; 2, or 1 with --plan.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed asks the same.")] = 0,
    url: Annotated[str | None, typer.Option(help="A server that runs already, OpenAI-compatible.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="METAINF_API_KEY", help="Its key.")] = None,
    hardware: Annotated[
        str | None, typer.Option("--hardware", "-H", help="What it runs on.", autocompletion=hardware_names)
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or gpu of this machine.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the engine; any free one by default.")] = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    e2e: E2e = None,
    campaign: Annotated[str | None, typer.Option(help="Name of these runs in the store.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same sweep was stopped.")] = False,
    time_limit: Annotated[
        str | None, typer.Option(help="Begin no run that would end after this, such as 10min.")
    ] = None,
    plan: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many of the runs: those most likely to change a choice."),
    ] = None,
    ray: Ray = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs and the time; start none.")
    ] = False,
    store: Store = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Run methods in a real engine on this machine, and keep what they show as records.

    With no options: SmolLM2 in llama.cpp, short chats, one at a time against continuous batching.
    """
    from metainf import api

    asked = api.Measuring(
        model=model, workloads=workload or api.Measuring.workloads, engine=engine, methods=method or (),
        in_flight=batch or (), rate_per_s=amount(rate), requests=requests,
        repeats=repeats or (2 if plan is None else 1), seed=seed, plan=plan,
        url=url, api_key=api_key, hardware=hardware, device=device, port=port, campaign=campaign,
        resume=resume, time_limit_s=seconds(minutes(time_limit)),
        limits=(seconds(ttft), seconds(tpot), seconds(e2e)),
        offline=offline,
    )  # fmt: skip
    with api.store(store) as opened:
        prepared = api.prepare_measuring(asked, opened)
        if dry_run:
            _show_plan(prepared, json)
            return
        for name, why in prepared.layout.refused:
            typer.echo(f"left out: {name}: {why}", err=True)
        try:
            with stopped_like_interrupted(), progress(json) as tell:
                if ray is None:
                    found = api.measure(prepared, opened, tell)
                else:
                    found = api.measure_spread(asked, prepared, ray, opened, tell)
        except KeyboardInterrupt:
            typer.echo("stopped: finished runs are in the store; --resume goes on", err=True)
            raise typer.Exit(STOPPED) from None
    print_json(found.as_dict()) if json else _show(found)
    if not found.worked:
        typer.echo("no run gave numbers: the reasons are above and in the store", err=True)
        raise typer.Exit(1)


def minutes(text: str | None) -> str | None:
    """`10m` as people write ten minutes."""
    return f"{text}in" if text is not None and text.strip().endswith("m") else text


def _show_plan(prepared: "Prepared", json: bool) -> None:
    rows, layout = prepared.rows(), prepared.layout
    total_s = layout.expected_s
    if json:
        plan = {"campaign": layout.campaign, "expected_s": total_s, "done": len(layout.done)}
        print_json({**plan, "runs": rows, "refused": dict(layout.refused)})
        return
    head: tuple[str, ...] = ("method", "workload", "in_flight", "requests", "repeat", "expected_s")
    head += ("why",) if prepared.why else ()
    table(head, [[row[key] for key in head] for row in rows])
    for name, why in layout.refused:
        typer.echo(f"left out: {name}: {why}")
    done = f", {len(layout.done)} are in the store" if layout.done else ""
    typer.echo(f"{len(rows)} runs, about {total_s / 60:.1f} minutes{done}")


def _show(found: "Measurement") -> None:
    from metainf.cli.pictures import draws, show_drawn

    show_drawn(found) if draws(found) else _show_written(found)
    _show_doubts(found)


def _show_written(found: "Measurement") -> None:
    head = (
        "workload", "in flight", "method", "tokens/s", "× first", "ttft_s", "tpot_s", "e2e_s", "GiB",
        "cached", "accepted", "agrees", "runs",
    )  # fmt: skip
    rows = [
        (
            line.workload, line.in_flight, line.method, line.output_tokens_per_s or line.failed, ratio(line),
            line.ttft_s, line.tpot_s, line.e2e_s, line.memory_gib, line.prefix_hit_share, line.accepted_share,
            line.quality, line.runs,
        )
        for line in found.lines
    ]  # fmt: skip
    table(head, rows, below="method")


def _show_doubts(found: "Measurement") -> None:
    swept = found.swept
    for line in found.lines:
        if line.failed is not None:
            typer.echo(f"{line.method} on {line.workload}: {line.failed}: {line.detail}")
    if found.noise is not None:
        typer.echo(
            f"Repeats differ by {found.noise:.1%} (standard deviation); ~ marks what they do not tell apart."
        )
    for said in swept.warnings:
        typer.echo(f"Mind: {said}.")
    if swept.unmade:
        typer.echo(f"{swept.unmade} runs were left for want of time: --resume makes them.")
    if swept.skipped:
        typer.echo(f"{swept.skipped} runs were skipped: the same run before them failed for good.")
    made = len(swept.records) - swept.resumed
    typer.echo(f"{made} records stored as {swept.campaign}.")


def ratio(line: Any) -> str | None:
    if line.ratio is None:
        return None
    return f"{line.ratio:.2f}{'~' if line.clear is False else ''}"


@contextmanager
def stopped_like_interrupted() -> "Iterator[None]":
    """SIGTERM (of a time limit, of a machine going down) ends like ^C: in order."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress(quiet: bool) -> "Iterator[Callable[[Any], None]]":
    """A bar with the time that is left, on stderr where a person is looking."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TextColumn("{task.fields[left]}"), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("starting", total=None, left="")

        def tell(now: Any) -> None:
            left = f"about {now.left_s / 60:.1f} min left"
            bar.update(task, description=now.words, completed=now.done, total=now.total, left=left)

        yield tell
