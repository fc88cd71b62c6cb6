"""What a text requires of the nodes that see it, and what each class of privacy is worth."""

from typing import TYPE_CHECKING, Annotated

import typer

from metainf.cli.options import Json
from metainf.cli.show import print_json

if TYPE_CHECKING:
    from metainf.swarm.privacy.words import Required, What

Privacy = Annotated[
    str,
    typer.Option(
        help="transport, trusted (only nodes of --trust), split (the client runs the first --keep blocks), "
        "attested, encrypted-head: see metainf swarm privacy."
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(help="A label, region:NAME, or a node's name (ed-…); several may be, each node needs one."),
]
Keep = Annotated[int, typer.Option(min=0, help="Blocks that the client runs itself, with split.")]


def required(privacy: str, trust: list[str] | None, keep: int) -> "Required":
    """What the options say; of split, the error output tells what it does not hide. Raises BadInput."""
    from metainf.swarm.privacy.measured import what
    from metainf.swarm.privacy.words import Required

    asked = Required.asking(privacy, trust or (), keep)
    if asked.privacy == "split":
        found = what("split", keep)
        typer.echo(f"privacy split, {keep} blocks: {_read_back(found)}; {found.exposes}", err=True)
    return asked


def swarm_privacy(json: Json = False) -> None:
    """What each class of privacy hides, what not, and how much of prompts an attack read back."""
    from metainf.swarm.privacy.measured import what
    from metainf.swarm.privacy.words import CLASSES

    found = [what(name) for name in CLASSES]
    if json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    for each in found:
        typer.echo(
            f"{each.name}: {'private' if each.private else 'not to be called private'}, {_read_back(each)}"
        )
        for name in ("protects", "exposes", "cost"):
            typer.echo(f"  {name:<9} {getattr(each, name)}")


def _read_back(found: "What") -> str:
    if found.recovery is None:
        return "no attack was measured"
    return f"an attack read back up to {found.recovery:.0%} of a prompt's tokens"
