"""metainf swarm serve: OpenAI's API in front of a swarm."""

from pathlib import Path
from typing import Annotated

import typer

from metainf.cli import paying
from metainf.cli.paying import Arbiter, Ledger, PayFrom, Price
from metainf.cli.queue_options import from_environment, only_what_acts
from metainf.cli.swarm_options import (
    Audit,
    AuditHere,
    Codec,
    OnlyBlocks,
    Quantization,
    Reputation,
    Trials,
    Weights,
    manner,
)
from metainf.cli.swarm_privacy import Keep, Privacy, Trust, required
from metainf.cli.swarm_showing import swarming_of
from metainf.cli.units import seconds

EVIDENCE = Path("evidence")


def register(swarm: typer.Typer) -> None:
    """Add this command to those of the swarm."""
    swarm.command("serve")(swarm_serve)


def swarm_serve(
    join: Annotated[
        str | None,
        typer.Option("--join", "-j", help="The swarm's directory, if not --queue.", envvar="METAINF_SWARM"),
    ] = None,
    model: Weights = None,
    host: Annotated[str, typer.Option(help="Address to listen at; beyond this machine only with a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8323,
    api_key: Annotated[
        str | None, typer.Option(envvar="METAINF_SWARM_API_KEY", help="The key that callers must show.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What callers call the model; its folder's name.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Texts that are written at once.")] = 8,
    waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; more get status 429.")] = 32,
    only_blocks: OnlyBlocks = False,
    choose: Annotated[
        str,
        typer.Option(
            help="Between replicas, and the path through blocks: scheduler (forecasts, load, limits, money, "
            "and what was learnt) or speed (as announced)."
        ),
    ] = "scheduler",
    identity: Annotated[
        Path | None, typer.Option(help="File of its key, so that its name stays; made on first use.")
    ] = None,
    change_methods: Annotated[
        bool,
        typer.Option("--change-methods", help="Tell idle replicas that obey it to run better methods."),
    ] = False,
    grace: Annotated[str, typer.Option(help="What running requests get when it is told to stop.")] = "30s",
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate chain (PEM): HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    privacy: Privacy = "transport",
    trust: Trust = None,
    keep: Keep = 0,
    queue: Annotated[
        str | None, typer.Option(help="Ask through this queue instead, whose workers run the models.")
    ] = None,
    pay_from: PayFrom = None,
    ledger: Ledger = None,
    price: Price = 0,
    arbiter: Arbiter = None,
    evidence: Annotated[Path, typer.Option(help="Folder of evidence of texts that are paid.")] = EVIDENCE,
    codec: Codec = "f32",
    quantization: Quantization = "none",
    audit: Audit = None,
    reputation: Reputation = None,
    audit_here: AuditHere = False,
    trials: Trials = False,
) -> None:
    """Answer OpenAI's API with the texts of a swarm."""
    import asyncio

    from metainf.domain import BadInput

    if join is None and queue is None:
        raise BadInput("expected --join or --queue, found neither")
    if queue is not None:
        only_what_acts(
            {
                "join": (join, from_environment(join)), "model": (model, None), "name": (name, None),
                "sessions": (sessions, 8), "waiting": (waiting, 32), "only_blocks": (only_blocks, False),
                "choose": (choose, "scheduler"), "identity": (identity, None),
                "change_methods": (change_methods, False), "evidence": (evidence, EVIDENCE),
                "codec": (codec, "f32"), "quantization": (quantization, "none"), "audit": (audit, None),
                "reputation": (reputation, None), "audit_here": (audit_here, False),
                "trials": (trials, False),
            }
        )  # fmt: skip
    swarming = swarming_of()
    if change_methods and (identity is None or choose != "scheduler" or only_blocks):
        raise BadInput(
            "expected --identity FILE beside --change-methods, whose name nodes are told to --obey, and the "
            "choice left to the scheduler"
        )
    purse = paying.purse(pay_from, ledger, price, arbiter)
    watching = {"share": audit, "reputation": reputation, "here": audit_here, "trials": trials}
    choosing = {"choose": choose, "changes": change_methods, "identity": identity}
    how = manner(codec, quantization, watching, choosing)
    told = swarming.Serving.of(
        {
            "host": host, "port": port, "api_key": api_key, "name": name, "places": sessions,
            "in_line": waiting, "grace_s": seconds(grace), "replicas": not only_blocks,
            "certificate": None if tls_certificate is None else str(tls_certificate),
            "key": None if tls_key is None else str(tls_key),
        }
    )  # fmt: skip

    def say(line: str) -> None:
        typer.echo(line, err=True)

    needs = required(privacy, trust, keep)
    if queue is not None:
        from metainf.api import queueing

        asyncio.run(queueing.serve(queue, told, say, purse, required=needs))
        return
    assert join is not None
    billing = None if purse is None else swarming.Billing(purse, evidence)
    asyncio.run(swarming.serve(join, model, told, say, billing, required=needs, manner=how))
