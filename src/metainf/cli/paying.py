"""Options of the commands that pay for what they ask."""

from pathlib import Path
from typing import Annotated, Any

import typer

PayFrom = Annotated[
    Path | None, typer.Option("--pay-from", help="Pay the nodes: the file of the payer's key, made if new.")
]
Ledger = Annotated[Path | None, typer.Option(help="The ledger's file that holds the money back.")]
Price = Annotated[int, typer.Option(min=0, help="What is paid for a block and a token, in 1e-9 USD.")]
Arbiter = Annotated[str | None, typer.Option(help="The node id of who settles, instead of the payer.")]


def purse(pay_from: Path | None, ledger: Path | None, price: int, arbiter: str | None) -> Any:
    """The purse of a command; None where nothing is paid. Raises BadInput."""
    from metainf.domain import BadInput

    if pay_from is None:
        if ledger is not None or arbiter is not None:
            raise BadInput("expected --pay-from with --ledger and --arbiter, found none")
        return None
    from metainf.api import ledger as verbs

    return verbs.purse(pay_from, price, ledger, arbiter)


def told(bill: Any, evidence: Path | None) -> None:
    """Write the evidence where it is wanted, and say what the text cost."""
    if bill is None:
        return
    from metainf.api import ledger as verbs

    typer.echo(f"order {bill.transaction}", err=True)
    if bill.problem:
        typer.echo(f"not settled: {bill.problem}", err=True)
    if evidence is None:
        return
    if not verbs.written(bill, evidence):
        typer.echo(
            "no node gave a receipt: nothing is settled, and after its deadline the order is refunded",
            err=True,
        )
    elif bill.evidence is None:
        typer.echo(
            f"{evidence} holds a claim: its arbiter makes evidence of it (metainf ledger settle)", err=True
        )
