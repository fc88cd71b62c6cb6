"""metainf select | size: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.names import one_of
from metainf.cli.options import (
    AIMS,
    Concurrency,
    Dollars,
    E2e,
    Engines,
    HardwareNames,
    InputTokens,
    Json,
    ModelName,
    Offline,
    OutputTokens,
    Predictor,
    Top,
    Tpot,
    Ttft,
    WorkloadName,
)
from metainf.cli.private import ClientHardware, ClientRate, ClientRtt, Keep, Privacy, Trust, asked
from metainf.cli.show import print_json, table
from metainf.cli.units import amount, seconds

if TYPE_CHECKING:
    from metainf.domain import Objective

EXPORTS = ("command", "compose", "kubernetes", "skypilot", "ray")
"""Repeated from `api.exporting`, which loads more than a help text may (a test compares them)."""
ALLOWED = ("distilled",)
"""Repeated likewise from `api.choosing`."""
DRAWN = 200
"""Candidates of a picture, however few are listed."""


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command()(select)
    app.command()(size)


def select(
    model: ModelName,
    hardware: HardwareNames,
    workload: WorkloadName = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    concurrency: Annotated[float | None, Concurrency] = None,
    rate: Annotated[str | None, typer.Option(help="Requests per second, instead of a concurrency.")] = None,
    max_usd_per_hour: Dollars = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    e2e: E2e = None,
    quality: Annotated[
        float | None, typer.Option(help="Least share of quality to keep, such as 0.98.")
    ] = None,
    aim: Annotated[
        str,
        typer.Option(help=f"What to be best at: {', '.join(AIMS)}.", autocompletion=one_of(*AIMS)),
    ] = "throughput_per_dollar",
    confidence: Annotated[
        float, typer.Option(help="Least probability of running and meeting all limits.")
    ] = 0.5,
    width: Annotated[int | None, typer.Option(help="Pixels (image and video models).")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels (image and video models).")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps (image and video models).")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures drawn together (image, video).")] = None,
    engine: Engines = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="What may stand in for the model: distilled (other models and decoders that draw).",
            autocompletion=one_of(*ALLOWED),
        ),
    ] = None,
    privacy: Privacy = None,
    trust: Trust = None,
    keep: Keep = None,
    client_hardware: ClientHardware = None,
    client_rtt_ms: ClientRtt = None,
    client_mbit_s: ClientRate = None,
    top: Top = 5,
    predictor: Predictor = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write the Pareto picture here (.png, .svg, .pdf).")
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(
            help=f"Print the first answer as a file of a tool instead: {', '.join(EXPORTS)}.",
            autocompletion=one_of(*EXPORTS),
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Container image of an export; the engine's own by default.")
    ] = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Which hardware and which methods: ranked, with intervals, reasons and the command to run."""
    from metainf import api
    from metainf.api.exporting import exported
    from metainf.api.pictures import check_picture
    from metainf.cli.answer import show
    from metainf.domain import UnknownName

    if aim not in AIMS:
        raise UnknownName("aim", aim, AIMS)
    if export is not None and export not in EXPORTS:
        raise UnknownName("export", export, EXPORTS)
    limits = {
        "aim": aim,
        "max_usd_per_hour": max_usd_per_hour,
        "max_ttft_s": seconds(ttft),
        "max_tpot_s": seconds(tpot),
        "max_e2e_s": seconds(e2e),
        "min_quality_recovery": quality,
        "confidence": confidence,
    }
    private = {
        "trust": trust,
        "keep": keep,
        "client_hardware": client_hardware,
        "client_rtt_ms": client_rtt_ms,
        "client_mbit_s": client_mbit_s,
    }
    drawn = {"width_px": width, "height_px": height, "steps": steps, "batch_size": batch}
    if plot is not None:
        check_picture(plot)
    question = api.Question(
        model,
        hardware,
        workload,
        _changes(input_tokens, output_tokens, concurrency, rate) | drawn,
        _objective(limits),
        engines=tuple(engine or api.ENGINES),
        top=top if plot is None else max(top, DRAWN),
        explain=top,
        predictor=predictor,
        offline=offline,
        allow=tuple(allow or ()),
        privacy=asked(privacy, private),
    )
    found = api.select(question)
    if plot is not None:
        api.pareto_plot(found, plot)
        found = found.model_copy(update={"ranked": found.ranked[:top]})
    if export is not None:
        text = exported(found, export, image=image)
        print_json({"export": export, "text": text}) if json else typer.echo(text, nl=False)
        return
    print_json(found) if json else show(found)


def size(
    model: ModelName,
    hardware: HardwareNames,
    rate: Annotated[str, typer.Option(help="Requests per second to serve.")],
    workload: WorkloadName = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    e2e: E2e = None,
    percentile: Annotated[
        str | None,
        typer.Option(
            help="Limits hold of p50, p90, p95 or p99; else of means.",
            autocompletion=one_of("p50", "p90", "p95", "p99"),
        ),
    ] = None,
    max_usd_per_hour: Dollars = None,
    concurrency: Annotated[
        float, typer.Option("--concurrency", "-c", help="Requests in flight per replica.")
    ] = 32,
    engine: Engines = None,
    top: Top = 5,
    predictor: Predictor = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """The least or cheapest hardware that serves a request rate under the limits."""
    from metainf import api

    limits = {
        "max_usd_per_hour": max_usd_per_hour,
        "max_ttft_s": seconds(ttft),
        "max_tpot_s": seconds(tpot),
        "max_e2e_s": seconds(e2e),
    }
    question = api.Question(
        model,
        hardware,
        workload,
        _changes(input_tokens, output_tokens, concurrency, None),
        _objective(limits),
        engines=tuple(engine or api.ENGINES),
        top=top,
        predictor=predictor,
        offline=offline,
    )
    found = api.size(question, amount(rate) or 0.0, percentile)
    print_json(list(found)) if json else _show_sizes(found)


def _show_sizes(found: Any) -> None:
    from metainf import api
    from metainf.cli.answer import machine

    head = (
        *("hardware", "method", "replicas", "devices", "$/h", "$/M requests", "in use"),
        *("ttft_s", "tpot_s", "e2e_s"),
    )
    rows = [
        (
            *(machine(s), api.method_in_words(s.method), s.replicas, s.devices, s.usd_per_hour),
            *(s.usd_per_million_requests, f"{s.utilisation:.0%}", s.ttft_s, s.tpot_s, s.e2e_s),
        )
        for s in found
    ]
    table(head, rows, below="method")


def _changes(
    input_tokens: float | None, output_tokens: float | None, concurrency: float | None, rate: str | None
) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "concurrency": concurrency,
        "request_rate_per_s": amount(rate),
    }


def _objective(limits: dict[str, Any]) -> "Objective":
    from metainf.domain import Objective

    return Objective.of({name: value for name, value in limits.items() if value is not None})
