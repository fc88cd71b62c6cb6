"""metainf select | size: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.show import cell, console, print_json, table
from metainf.cli.units import amount, seconds

if TYPE_CHECKING:
    from metainf.domain import Candidate, Objective, Selection

ModelName = Annotated[
    str, typer.Option("--model", "-m", help="Name, config.json, diffusers folder or GGUF file.")
]
HardwareNames = Annotated[
    list[str],
    typer.Option("--hardware", "-H", help='Candidates: "1-4xL4", "A100-80GB", "2xh100@3.5" ($/device-hour).'),
]
WorkloadName = Annotated[
    str | None, typer.Option("--workload", "-w", help="A named workload or a trace file.")
]
Tokens = Annotated[float | None, typer.Option(help="Mean tokens of a request.")]
Time = Annotated[str | None, typer.Option(help="Limit, such as 500ms.")]
Dollars = Annotated[float | None, typer.Option(help="Limit in US dollars.")]
Predictor = Annotated[Path | None, typer.Option(help="A trained predictor; the shipped one by default.")]
Engines = Annotated[list[str] | None, typer.Option("--engine", help="Only these engines.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command()(select)
    app.command()(size)


def select(
    model: ModelName,
    hardware: HardwareNames,
    workload: WorkloadName = None,
    input_tokens: Tokens = None,
    output_tokens: Tokens = None,
    concurrency: Annotated[
        float | None, typer.Option("--concurrency", "-c", help="Requests in flight.")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Requests per second, instead of a concurrency.")] = None,
    max_usd_per_hour: Dollars = None,
    ttft: Time = None,
    tpot: Time = None,
    e2e: Time = None,
    quality: Annotated[
        float | None, typer.Option(help="Least share of quality to keep, such as 0.98.")
    ] = None,
    aim: Annotated[
        str, typer.Option(help="throughput_per_dollar, throughput, cost, latency, ttft, tpot.")
    ] = ("throughput_per_dollar"),
    confidence: Annotated[
        float, typer.Option(help="Least probability of running and meeting all limits.")
    ] = 0.5,
    engine: Engines = None,
    top: Annotated[int, typer.Option(help="How many answers.")] = 5,
    predictor: Predictor = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write the Pareto picture here (.png, .svg, .pdf).")
    ] = None,
    json: Json = False,
) -> None:
    """Which hardware and which methods: ranked, with intervals, reasons and the command to run."""
    from metainf import api

    limits = {
        "aim": aim,
        "max_usd_per_hour": max_usd_per_hour,
        "max_ttft_s": seconds(ttft),
        "max_tpot_s": seconds(tpot),
        "max_e2e_s": seconds(e2e),
        "min_quality_recovery": quality,
        "confidence": confidence,
    }
    question = api.Question(
        model,
        hardware,
        workload,
        _changes(input_tokens, output_tokens, concurrency, rate),
        _objective(limits),
        top=top,
        predictor=predictor,
        **({"engines": tuple(engine)} if engine else {}),
    )
    found = api.select(question)
    if plot is not None:
        api.pareto_plot(found, plot)
    print_json(found) if json else _show(found)


def size(
    model: ModelName,
    hardware: HardwareNames,
    rate: Annotated[str, typer.Option(help="Requests per second to serve.")],
    workload: WorkloadName = None,
    input_tokens: Tokens = None,
    output_tokens: Tokens = None,
    ttft: Time = None,
    tpot: Time = None,
    e2e: Time = None,
    percentile: Annotated[
        str | None, typer.Option(help="Limits hold of p50, p90, p95 or p99; else of means.")
    ] = None,
    concurrency: Annotated[
        float, typer.Option("--concurrency", "-c", help="Requests in flight per replica.")
    ] = 32,
    engine: Engines = None,
    top: Annotated[int, typer.Option(help="How many answers.")] = 5,
    predictor: Predictor = None,
    json: Json = False,
) -> None:
    """The least or cheapest hardware that serves a request rate under the limits."""
    from metainf import api

    limits = {"max_ttft_s": seconds(ttft), "max_tpot_s": seconds(tpot), "max_e2e_s": seconds(e2e)}
    question = api.Question(
        model,
        hardware,
        workload,
        _changes(input_tokens, output_tokens, concurrency, None),
        _objective(limits),
        top=top,
        predictor=predictor,
        **({"engines": tuple(engine)} if engine else {}),
    )
    found = api.size(question, amount(rate) or 0.0, percentile)
    if json:
        print_json(list(found))
        return
    head = (
        "hardware",
        "method",
        "replicas",
        "devices",
        "$/h",
        "$/M requests",
        "in use",
        "ttft_s",
        "tpot_s",
        "e2e_s",
    )
    table(
        head,
        [
            (
                f"{s.hardware.count}× {s.hardware.device.name}",
                api.method_in_words(s.method),
                s.replicas,
                s.devices,
                s.usd_per_hour,
                s.usd_per_million_requests,
                f"{s.utilisation:.0%}",
                s.ttft_s,
                s.tpot_s,
                s.e2e_s,
            )
            for s in found
        ],
    )


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


def _show(found: "Selection") -> None:
    from metainf import api

    head = (
        "#",
        "hardware",
        "method",
        "tok/s",
        "TTFT s",
        "TPOT ms",
        "$/h",
        "$/M tokens",
        "works",
        "in limits",
    )
    table(head, [_row(place, c, api.method_in_words(c.method)) for place, c in enumerate(found.ranked, 1)])
    best = found.ranked[0]
    out = console()
    out.print(f"Run the first:\n  {best.command}\n", soft_wrap=True)
    _list("Why", best.prediction.reasons)
    _list("Nearest measured", best.prediction.nearest)
    _list("Mind", best.notes)
    if found.excluded:
        table(
            ("left out for", "hardware", "method", "reason"),
            [
                (
                    e.limit,
                    f"{e.hardware.count}× {e.hardware.device.name}",
                    api.method_in_words(e.method),
                    e.reason,
                )
                for e in found.excluded
            ],
        )


def _row(place: int, candidate: "Candidate", method: str) -> tuple[object, ...]:
    metrics = candidate.prediction.metrics
    hardware = f"{candidate.hardware.count}× {candidate.hardware.device.name}"
    cost = candidate.usd_per_million_tokens
    return (
        str(place),
        hardware,
        method,
        interval(metrics.get("output_tokens_per_s")),
        interval(metrics.get("ttft_s")),
        interval(metrics.get("tpot_s"), 1e3),
        candidate.usd_per_hour,
        interval(cost),
        f"{candidate.prediction.p_ok:.0%}",
        f"{candidate.p_feasible:.0%}",
    )


def interval(estimate: Any, times: float = 1.0) -> str | None:
    """Median with the bounds of the 90 % interval."""
    if estimate is None:
        return None
    return f"{cell(estimate.value * times)} ({cell(estimate.low * times)}–{cell(estimate.high * times)})"


def _list(title: str, lines: tuple[str, ...]) -> None:
    if lines:
        console().print(title + "\n" + "\n".join(f"  • {line}" for line in lines) + "\n", soft_wrap=True)
