"""Options that commands of a swarm share: what goes over the wire, who is asked, how nodes are watched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metainf.api.swarming import Manner, Verdicts

Join = Annotated[
    str,
    typer.Option(
        "--join", "-j", help="The swarm's directory, such as nats://host:4222.", envvar="METAINF_SWARM"
    ),
]
Codec = Annotated[
    str,
    typer.Option(
        help="Activations on the wire: f32 (exact), f16 or bf16 (half the bytes), int8 (a quarter; changes "
        "some tokens)."
    ),
]
Quantization = Annotated[
    str,
    typer.Option(help="Ask nodes whose weights are none, or int8: quicker on little memory, another text."),
]
Audit = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of the answers of tried nodes that are calculated again, such as 0.05; all of new nodes.",
    ),
]
Reputation = Annotated[
    Path | None,
    typer.Option(help="File of what nodes did, made on first use; it decides who is asked."),
]
AuditHere = Annotated[
    bool, typer.Option("--audit-here", help="Audit with blocks held by this process, not by other nodes.")
]
Trials = Annotated[
    bool, typer.Option("--trials", help="Try new nodes with known answers, beside the texts; with --audit.")
]


def manner(codec: str, quantization: str, watching: dict[str, Any]) -> "Manner":
    """How texts go through the swarm, of plain values. Raises BadInput."""
    from metainf.api import swarming
    from metainf.domain import BadInput

    file, share = watching["reputation"], watching["share"] or None
    if share is None and (watching["here"] or watching["trials"]):
        raise BadInput(
            "expected --audit with a share such as 0.05 beside --audit-here or --trials, found none"
        )
    told = {**watching, "share": share, "reputation": None if file is None else str(file.expanduser())}
    watched = share is not None or file is not None
    return swarming.Manner.of(
        {"codec": codec, "quantization": quantization, **({"watching": told} if watched else {})}
    )


def audited(found: "Verdicts") -> str:
    """What audits have found, in a line."""
    told = [f"audits: {found.passed} passed, {len(found.lied)} lies"]
    if found.undecided:
        told.append(f"{found.undecided} undecided ({found.why_undecided})")
    if found.dropped:
        told.append(f"{found.dropped} left undone")
    if found.trials:
        told.append(f"{found.trials} trials")
    return ", ".join(told)
