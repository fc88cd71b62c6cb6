"""metainf node: hold some blocks of a model for a swarm."""

from pathlib import Path
from typing import Annotated

import typer

from metainf.cli.options import Json


def register(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command("node")(node)


def node(
    join: Annotated[str, typer.Option(help="Address of the directory, such as nats://10.0.0.1:4222.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A checkpoint's folder, a GGUF file or SmolLM2-135M-Instruct, the default."
        ),
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(min=0.0, help="Memory for blocks; most of what is free by default.")
    ] = None,
    quantization: Annotated[
        str,
        typer.Option(
            help="Of the weights: none, or int8 for a quarter of the memory; nodes work with their like only."
        ),
    ] = "none",
    cache_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of all texts together for which it keeps room; 8,192.")
    ] = None,
    span: Annotated[
        str | None, typer.Option(help="Blocks to hold and never leave, such as 0:12; chosen by default.")
    ] = None,
    place: Annotated[
        str,
        typer.Option(help="How it chooses them: routes (the quickest) or weakest (the weakest block)."),
    ] = "routes",
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    public_address: Annotated[
        str | None, typer.Option(help="Where others reach it, as host or host:port, if not there.")
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(help="File of its key, made on first use; a new key for each start by default."),
    ] = None,
    price: Annotated[float | None, typer.Option(min=0.0, help="US dollars per hour, announced.")] = None,
    region: Annotated[str | None, typer.Option(help="Where it stands, announced.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A word of your own, announced; repeatable.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that calculate; all by default.")
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0.0, help="Seconds that sessions may take to finish when it leaves or moves.")
    ] = 30.0,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port where Prometheus is answered; none by default.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
    measure_again: Annotated[
        bool, typer.Option("--measure-again", help="Measure the speed although it is known.")
    ] = False,
    replica: Annotated[
        bool, typer.Option("--replica", help="Offer the whole model through an engine, not blocks of it.")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="The replica's engine; MetaInf selects one by default.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="The replica's method, as in `metainf measure --method`.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Methods that a replica may change to, after commas; the first is its --method."),
    ] = None,
    obey: Annotated[
        list[str] | None,
        typer.Option(help="Who may change a replica's method: the name of a `swarm serve`; repeatable."),
    ] = None,
    places: Annotated[int, typer.Option(min=1, help="Texts that a replica writes at once.")] = 4,
    context_tokens: Annotated[int, typer.Option(min=16, help="Tokens of a replica's longest text.")] = 4096,
    paid: Annotated[bool, typer.Option("--paid", help="Calculate only for orders that pay.")] = False,
    least_nanousd_per_pass: Annotated[
        int, typer.Option(min=0, help="The least that an order must pay for one block and token, 1e-9 USD.")
    ] = 0,
    ledger: Annotated[
        Path | None, typer.Option(help="A ledger's file: it must hold the money of an order.")
    ] = None,
    slowness: Annotated[float, typer.Option(min=1.0, hidden=True)] = 1.0,
    json: Json = False,
) -> None:
    """Hold blocks of a model for a swarm until told to stop (SIGTERM, Ctrl-C).

    It measures itself, takes the blocks that the swarm lacks most, announces them, and moves where the swarm
    gains by it. With --replica it offers the whole model through an engine instead. A second signal ends it
    at once.
    """
    from metainf.domain import BadInput, MissingExtra

    try:
        from metainf.api import nodes
    except ImportError as error:
        if (error.name or "").startswith("metainf"):
            raise
        raise MissingExtra("the swarm", "swarm") from None
    told = nodes.checked(
        {
            "checkpoint": "",
            "join": join,
            "memory_gib": memory_gib,
            "quantization": quantization,
            "cache_tokens": cache_tokens,
            "span": None if span is None else nodes.span_of(span).model_dump(),
            "place": place,
            "host": host,
            "port": port,
            "public_address": public_address,
            "identity": None if identity is None else str(identity.expanduser()),
            "usd_per_hour": price,
            "region": region,
            "labels": label or [],
            "threads": threads or nodes.processors(),
            "grace_s": grace,
            "measure_again": measure_again,
            "metrics_port": metrics_port,
            "metrics_host": metrics_host,
            "slowness": slowness,
            "paid": paid,
            "least_nanousd_per_pass": least_nanousd_per_pass,
            "obey": obey or [],
            "ledger": None if ledger is None else str(ledger),
        }
    )

    def say(said: nodes.Said) -> None:
        typer.echo(said.canonical() if json else said.text)

    if not replica:
        if any((engine, method, methods, obey)):
            raise BadInput(
                "expected --replica beside --engine, --method, --methods and --obey: blocks run on PyTorch"
            )
        nodes.run_node(model, told, say)
        return
    if span is not None:
        raise BadInput("expected no --span of a replica: it offers the whole model")
    if obey and not methods:
        raise BadInput("expected --methods beside --obey: those that it may change to")
    names = tuple(name.strip() for name in (methods or "").split(",") if name.strip())
    asked = nodes.Asked(model, engine, method, places, context_tokens, methods=names)
    nodes.run_replica(asked, told, say, lambda line: typer.echo(line, err=True))
