"""metainf swarm: a model that runs through several nodes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metainf.cli import paying
from metainf.cli.options import Json
from metainf.cli.paying import Arbiter, Ledger, PayFrom, Price
from metainf.cli.show import print_json
from metainf.cli.swarm_manifests import register as manifests_registered
from metainf.cli.swarm_options import (
    Audit,
    AuditHere,
    Codec,
    Join,
    OnlyBlocks,
    Quantization,
    Reputation,
    Trials,
    Weights,
    audited,
    manner,
)
from metainf.cli.swarm_privacy import Keep, Privacy, Trust, required, swarm_privacy
from metainf.cli.swarm_serving import register as serve_registered
from metainf.cli.swarm_showing import swarm_demo, swarming_of
from metainf.cli.swarm_top import swarm_top

if TYPE_CHECKING:
    from metainf.api.swarming import Verdicts, Written

AUDITS_S = 60.0
"""How long a text that is written waits for its audits."""
swarm = typer.Typer(help="A model that runs through several nodes.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    swarm.command("demo")(swarm_demo)
    manifests_registered(swarm)
    swarm.command("privacy")(swarm_privacy)
    serve_registered(swarm)
    swarm.command("top")(swarm_top)
    app.add_typer(swarm, name="swarm")


@swarm.command("generate")
def swarm_generate(
    join: Join,
    model: Weights = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="What is asked; else --file or the standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A file with what is asked.")] = None,
    system: Annotated[str | None, typer.Option(help="What the system says first, in a chat.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Go on with the text itself, not in a chat.")
    ] = False,
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="Most tokens that are written.")] = 128,
    stop: Annotated[
        list[str] | None, typer.Option(help="A text before which to end; several may be.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 takes the likeliest token, more draws.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=0, max=1, help="Draw from the likeliest with this chance together.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same text.")] = None,
    only_blocks: OnlyBlocks = False,
    route: Annotated[
        bool, typer.Option("--route", help="Tell the first route too, not only changes.")
    ] = False,
    privacy: Privacy = "transport",
    trust: Trust = None,
    keep: Keep = 0,
    pay_from: PayFrom = None,
    ledger: Ledger = None,
    price: Price = 0,
    arbiter: Arbiter = None,
    evidence: Annotated[Path | None, typer.Option(help="Where to write what shows who did it.")] = None,
    codec: Codec = "f32",
    quantization: Quantization = "none",
    audit: Audit = None,
    reputation: Reputation = None,
    audit_here: AuditHere = False,
    trials: Trials = False,
    json: Json = False,
) -> None:
    """Write a text through the nodes of a swarm, and go on where one fails."""
    import asyncio

    asked = _question(prompt, file)
    swarming = swarming_of()
    watching = {"share": audit, "reputation": reputation, "here": audit_here, "trials": trials}
    how = manner(codec, quantization, watching)
    terms: dict[str, Any] = {
        "max_tokens": tokens, "temperature": temperature, "top_p": top_p, "seed": seed,
        "stop": tuple(stop or ()),
    }  # fmt: skip
    told: list[str] = []
    purse = paying.purse(pay_from, ledger, price, arbiter)

    def tell(line: str) -> None:
        if route or told or not line.startswith("route "):
            typer.echo(line, err=True)
        told.append(line)

    async def write() -> "tuple[Written, Verdicts | None]":
        needs = required(privacy, trust, keep)
        swarming.warned(lambda line: typer.echo(line, err=True), join)
        async with swarming.joined(join, model, not only_blocks, required=needs, manner=how) as found:
            ask = found.asked(asked, system, plain, **terms)
            course = swarming.Course(tell, purse=purse)
            pieces = []
            async for piece in found.stream(ask, course):
                pieces.append(piece)
                if not json:
                    typer.echo(piece.text, nl=False)
                    sys.stdout.flush()
            if not json:
                typer.echo()
            paying.told(course.bill, evidence)
            shown: Written = swarming.written(pieces, course, found.name)
            return shown, None if found.watch is None else await found.watch.done(AUDITS_S)

    shown, verdicts = asyncio.run(write())
    if json:
        more = {} if verdicts is None else {"verdicts": verdicts.model_dump(mode="json")}
        print_json({**shown.model_dump(mode="json"), **more})
        return
    typer.echo(_summary(shown), err=True)
    if verdicts is not None:
        typer.echo(audited(verdicts), err=True)


@swarm.command("status")
def swarm_status(
    join: Join,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Only this one: how its digest begins, or its folder.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=0, help="Of the request that a route is shown for.")] = 64,
    new_tokens: Annotated[int, typer.Option(min=1, help="Of the request that a route is shown for.")] = 128,
    reputation: Annotated[
        Path | None, typer.Option(help="Show the standings of this file, and the route that they lead to.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again each second, until ^C.")] = False,
    json: Json = False,
) -> None:
    """Show the nodes of a swarm and which blocks they hold. Exit code 1 where a model is not whole."""
    import asyncio

    from metainf.cli.swarm_state import draw, lines, only

    swarming = swarming_of()
    wanted = swarming.digest_of(model)
    demand = swarming.Demand(prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    if watch:
        asyncio.run(draw(swarming.states(join, demand, reputation), wanted))
        return
    found = asyncio.run(swarming.status(join, demand, reputation))
    if json:
        print_json({**only(found, wanted).model_dump(mode="json"), "complete": found.complete(wanted)})
    else:
        for line in lines(only(found, wanted)):
            typer.echo(line)
    if not found.complete(wanted):
        raise typer.Exit(1)


def _question(prompt: str | None, file: Path | None) -> str:
    """What is asked, from wherever it comes."""
    from metainf.domain import BadInput

    if prompt is not None and file is not None:
        raise BadInput("expected --prompt or --file, found both")
    if prompt is None and file is None and sys.stdin.isatty():
        raise BadInput("expected --prompt, --file or a text on the standard input, found none")
    try:
        text = file.read_text(encoding="utf-8") if file is not None else prompt
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {file}: {error}") from None
    text = sys.stdin.read() if text is None else text
    if not text.strip():
        raise BadInput("expected a text to ask, found nothing but space")
    return text


def _summary(shown: "Written") -> str:
    """How it went, in a line."""
    told = [f"{shown.output_tokens} tokens"]
    if shown.tokens_per_s is not None:
        told.append(f"{shown.tokens_per_s:.1f} tokens/s")
    if shown.ttft_s is not None:
        told.append(f"the first after {shown.ttft_s:.2f} s")
    if shown.recoveries:
        told.append(
            f"{shown.recoveries} recoveries in {shown.recovery_s:.2f} s with {shown.replayed_tokens} tokens "
            "replayed"
        )
    else:
        told.append("no recovery")
    if shown.restarts:
        told.append(f"{shown.restarts} times no way was left and one was waited for")
    if shown.seed is not None:
        told.append(f"seed {shown.seed}")
    return ", ".join(told)
