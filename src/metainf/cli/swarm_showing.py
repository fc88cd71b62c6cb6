"""metainf swarm demo: what a swarm looks like, here."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metainf.cli.options import Json
from metainf.cli.show import print_json


def swarming_of() -> Any:
    """What the commands call. Raises MissingExtra."""
    from metainf.domain import MissingExtra

    try:
        from metainf.api import swarming
    except ImportError as error:
        if (error.name or "").startswith("metainf"):
            raise
        raise MissingExtra("the swarm", "swarm") from None
    return swarming


def swarm_demo(
    question: Annotated[str, typer.Argument(help="What the model is asked.")] = (
        "Write three sentences about rivers."
    ),
    model: Annotated[
        Path | None,
        typer.Option(help="A checkpoint's folder or a GGUF file; the packaged SmolLM2-135M by default."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Most tokens that are written.")] = 40,
    kill_after: Annotated[int, typer.Option(min=1, help="Tokens after which a node is killed.")] = 15,
    json: Json = False,
) -> None:
    """Four nodes of different speed on this machine write a text; one is killed, the text goes on."""
    import asyncio

    swarming = swarming_of()

    def say(line: str) -> None:
        typer.echo(line, err=json)

    shown = asyncio.run(swarming.demo(model, swarming.Script(question, tokens, kill_after), say))
    if json:
        print_json(shown)
        return
    typer.echo(f"text  {shown.text}")
    verdict = "the same as" if shown.same else "NOT the same as"
    typer.echo(
        f"{shown.tokens} tokens, {verdict} one process writes; {shown.killed or 'no node'} was killed, "
        f"{shown.recovery_s:.2f} s to go on with {shown.replayed_tokens} tokens replayed; "
        f"{shown.seconds:.0f} s in all"
    )
    if not shown.same:
        raise typer.Exit(1)
