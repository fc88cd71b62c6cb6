"""metainf gateway: requests go to the endpoint that is predicted best for them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metainf.cli.options import Json, Predictor, Store
from metainf.cli.show import print_json, table
from metainf.cli.units import seconds


def register(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command()(gateway)


def gateway(
    endpoints: Annotated[Path, typer.Option("--endpoints", "-e", help="TOML file of [[endpoint]] tables.")],
    host: Annotated[str, typer.Option(help="Address to listen at; beyond this machine only with keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8322,
    check: Annotated[
        bool, typer.Option("--check", help="Show the endpoints and what is forecast of them; start nothing.")
    ] = False,
    attempts: Annotated[int, typer.Option(min=1, help="Endpoints asked for one request at most.")] = 3,
    stall: Annotated[str, typer.Option(help="Longest wait for a sign of life of an endpoint.")] = "30s",
    deadline: Annotated[str, typer.Option(help="Longest time for a whole answer.")] = "600s",
    probe_every: Annotated[str, typer.Option(help="Between two looks at an endpoint's health.")] = "5s",
    explore: Annotated[
        float, typer.Option(min=0, max=1, help="Share of requests for which the best is not taken.")
    ] = 0.02,
    rate: Annotated[
        str, typer.Option(help="Most requests of one key or address, such as 200/second, or none.")
    ] = "none",
    grace: Annotated[str, typer.Option(help="What running requests get when it is told to stop.")] = "30s",
    store: Store = None,
    predictor: Predictor = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="Look unknown models up on the Hugging Face hub.")
    ] = False,
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate chain (PEM): HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    json: Json = False,
) -> None:
    """Answer OpenAI's API: each request goes to the endpoint that is predicted best for its limits."""
    from metainf.domain import MissingExtra
    from metainf.gateway.endpoints import read_endpoints
    from metainf.hosts import https

    found = read_endpoints(endpoints, offline=not hub)
    if check:
        _show(found, json)
        return
    try:
        from metainf.gateway.settings import GatewaySettings
        from metainf.gateway.start import listen
        from metainf.service.start import Listening
    except ImportError as error:
        if (error.name or "").startswith("metainf"):
            raise
        raise MissingExtra("the gateway", "gateway") from None
    https.both(tls_certificate, tls_key)
    settings = GatewaySettings.of(
        {
            "store": store,
            "predictor": None if predictor is None else str(predictor),
            "rate": None if rate == "none" else rate,
            "attempts": attempts,
            "stall_s": seconds(stall),
            "deadline_s": seconds(deadline),
            "probe_every_s": seconds(probe_every),
            "explore": explore,
        }
    )
    where = Listening(host, port, 1, tls_certificate, tls_key)
    listen(found, settings, where, max(1, round(seconds(grace) or 0)), typer.echo)


def _show(endpoints: "tuple[Any, ...]", json: bool) -> None:
    from metainf.gateway.forecasts import FIRST_LOADS, FIRST_SIZES
    from metainf.gateway.shown import forecast_rows
    from metainf.gateway.words import kind_of

    kinds = [kind_of(FIRST_SIZES[-1], load) for load in FIRST_LOADS]
    rows = [row | {"in_flight": kind.in_flight} for kind in kinds for row in forecast_rows(endpoints, kind)]
    if json:
        print_json(rows)
        return
    first = {row["endpoint"]: row for row in reversed(rows)}
    table(
        ("endpoint", "url", "hardware", "$/h", "method"),
        [
            (each.name, each.url, *(first[each.name][key] for key in ("hardware", "usd_per_hour", "method")))
            for each in endpoints
        ],
        below="method",
    )
    typer.echo(f"Forecast of {kinds[0].input_tokens} tokens in and {kinds[0].output_tokens} out:")
    head = ("endpoint", "in_flight", "ttft_s", "tpot_s", "usd")
    table(head, [[row[key] for key in head] for row in rows if row["note"] is None])
    for name, why in {row["endpoint"]: row["note"] for row in rows if row["note"]}.items():
        typer.echo(f"{name}: nothing is forecast: {why}")
