"""metainf swarm queue, work and dead: the queue in front of a swarm."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli.options import Json
from metainf.cli.show import print_json, table
from metainf.cli.swarm_options import (
    Audit,
    AuditHere,
    Codec,
    Join,
    Quantization,
    Reputation,
    Trials,
    Weights,
    manner,
)
from metainf.cli.swarm_privacy import Keep, Privacy, Trust, required
from metainf.cli.swarm_showing import swarming_of
from metainf.cli.swarming import swarm

if TYPE_CHECKING:
    from metainf.api.queue_server import Listens

Queue = Annotated[
    str,
    typer.Option("--queue", "-q", help="The queue, such as nats://host:4222.", envvar="METAINF_QUEUE"),
]


def register(_: typer.Typer) -> None:
    """These commands are below `metainf swarm`: to be imported is enough."""


@swarm.command("queue")
def swarm_queue(
    folder: Annotated[Path, typer.Option(help="Where requests, answers and dead letters are kept.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 4222,
    json: Json = False,
) -> None:
    """Run the queue's server, NATS with JetStream, for this machine alone, until SIGTERM or Ctrl-C."""
    import asyncio

    from metainf.api import queue_server

    def say(listens: "Listens") -> None:
        told = f"listening on {listens.url}, streams in {listens.folder}"
        print(listens.canonical() if json else told, flush=True)

    asyncio.run(queue_server.run(folder.expanduser(), port, say))


@swarm.command("work")
def swarm_work(
    queue: Queue,
    join: Join,
    model: Weights = None,
    hardware: Annotated[str | None, typer.Option(help="A class that callers may ask for.")] = None,
    region: Annotated[str | None, typer.Option(help="Where it stands.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A word of your own; repeatable.")] = None,
    slots: Annotated[int, typer.Option(min=1, help="Requests that are worked on at once.")] = 4,
    price: Annotated[float | None, typer.Option(min=0.0, help="US dollars per hour, announced.")] = None,
    privacy: Privacy = "transport",
    trust: Trust = None,
    keep: Keep = 0,
    codec: Codec = "f32",
    quantization: Quantization = "none",
    audit: Audit = None,
    reputation: Reputation = None,
    audit_here: AuditHere = False,
    trials: Trials = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port where Prometheus is answered; none by default.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
) -> None:
    """Answer requests that wait in a queue with the texts of a swarm, until SIGTERM or Ctrl-C."""
    import asyncio

    queueing = _queueing()
    offered = queueing.Offered.of(
        {
            "hardware": hardware, "region": region, "labels": label or [], "slots": slots,
            "usd_per_hour": price, "metrics_port": metrics_port, "metrics_host": metrics_host,
        }
    )  # fmt: skip
    watching = {"share": audit, "reputation": reputation, "here": audit_here, "trials": trials}
    how, needs = manner(codec, quantization, watching), required(privacy, trust, keep)

    def say(line: str) -> None:
        typer.echo(line, err=True)

    asyncio.run(queueing.work(queue, join, model, offered, say, how, required=needs))


@swarm.command("dead")
def swarm_dead(
    queue: Queue,
    again: Annotated[
        int | None, typer.Option(help="The number of one to send again; its answer is printed.")
    ] = None,
    json: Json = False,
) -> None:
    """Show requests that nobody could serve, or send one again. Exit code 1 where it fails again."""
    import asyncio

    queueing = _queueing()
    if again is not None:
        reply = asyncio.run(queueing.send_again(queue, again))
        if json:
            print_json(reply)
        else:
            typer.echo(reply.body if reply.error is None else f"failed again: {reply.error}")
        if reply.error is not None:
            raise typer.Exit(1)
        return
    found = asyncio.run(queueing.dead(queue))
    if json:
        print_json([{"seq": e.seq, "group": e.group, "why": e.why, "job": e.job} for e in found])
        return
    rows = [
        (
            letter.seq,
            letter.group,
            letter.job.tenant if letter.job else "",
            f"{datetime.fromtimestamp(letter.job.issued_s, UTC):%Y-%m-%d %H:%M:%S}" if letter.job else "",
            letter.why,
        )
        for letter in found
    ]
    table(("number", "group", "tenant", "asked", "why"), rows)


def _queueing() -> Any:
    """What the commands call. Raises MissingExtra."""
    swarming_of()
    from metainf.api import queueing

    return queueing
