"""metainf ledger: orders and payments in a file; metainf swarm verify: what came with an answer."""

import re
from pathlib import Path
from typing import Annotated

import typer

from metainf.cli.options import Json
from metainf.cli.paying import Arbiter, Price
from metainf.cli.show import print_json, table
from metainf.cli.swarming import swarm

ledger = typer.Typer(help="Orders, receipts and payments of a swarm, in a file.", no_args_is_help=True)
LedgerFile = Annotated[Path, typer.Argument(help="The ledger's file.")]
Operator = Annotated[Path, typer.Option("--identity", help="The operator's key; made where there is none.")]
NANO = 1e-9
TEXTS = {
    "whole": "what the answer's tokens say",
    "beginning": "the beginning of what the answer's tokens say, as where a stop word ended it",
    "another": "ANOTHER ONE",
}


def register(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.add_typer(ledger, name="ledger")


@ledger.command("deposit")
def ledger_deposit(
    path: LedgerFile,
    account: Annotated[str, typer.Argument(help="A node id, such as ed-….")],
    usd: Annotated[float, typer.Argument(min=1e-9, max=1e9, help="US dollars that have come.")],
    identity: Operator,
    reference: Annotated[str, typer.Option(help="Of the bank's transfer; each is admitted once.")],
    json: Json = False,
) -> None:
    """Tell the ledger that money has come for an account."""
    from metainf.api import ledger as verbs

    _show(verbs.deposit(path, identity, account, round(usd / NANO), reference), json)


@ledger.command("show")
def ledger_show(
    path: LedgerFile,
    operator: Annotated[str, typer.Option(help="The node id of its operator.")],
    json: Json = False,
) -> None:
    """Check every entry, and show the accounts."""
    from metainf.api import ledger as verbs

    _show(verbs.summary(path, operator), json)


@ledger.command("refund")
def ledger_refund(path: LedgerFile, identity: Operator, json: Json = False) -> None:
    """Give back what is held for orders whose deadline is over."""
    from metainf.api import ledger as verbs

    found = verbs.refund_overdue(path, identity)
    if json:
        print_json(list(found))
        return
    typer.echo(f"{len(found)} orders refunded")


@ledger.command("head")
def ledger_head(path: LedgerFile, identity: Operator) -> None:
    """Print the sealed Merkle root of all entries: who keeps it can show later that history was changed."""
    from metainf.api import ledger as verbs

    typer.echo(verbs.head(path, identity))


@ledger.command("order")
def ledger_order(
    path: LedgerFile,
    identity: Annotated[Path, typer.Option("--identity", help="The payer's key; made where there is none.")],
    model: Annotated[str, typer.Option(help="The digest of the model's weights.")],
    blocks: Annotated[int, typer.Option(min=1, help="How many blocks it has.")],
    tokens: Annotated[int, typer.Option(min=1, help="The most tokens of prompt and answer together.")],
    price: Price = 0,
    arbiter: Arbiter = None,
    within: Annotated[float, typer.Option(min=1.0, help="Seconds until money goes back.")] = 600.0,
) -> None:
    """Sign an order for one request, have its money held back, and print it: for a request's own field
    `metainf`, as its `order`."""
    from metainf.api import ledger as verbs

    typer.echo(verbs.order(path, identity, (model, blocks), tokens, price, arbiter, within))


@ledger.command("settle")
def ledger_settle(
    claim: Annotated[
        Path, typer.Argument(help="The claim: what `swarm generate --arbiter` wrote, or came with an answer.")
    ],
    identity: Annotated[
        Path,
        typer.Option("--identity", help="The key of the order's arbiter; of its payer where it has none."),
    ],
    path: Annotated[Path | None, typer.Option("--ledger", help="The ledger to settle it in.")] = None,
) -> None:
    """Settle an order as its judge, and print the evidence."""
    from metainf.api import ledger as verbs

    typer.echo(verbs.settle(claim, identity, path).canonical())


@swarm.command("verify")
def swarm_verify(
    path: Annotated[Path, typer.Argument(help="The evidence that came with an answer (JSON).")],
    answer: Annotated[str | None, typer.Option(help="The answer's tokens, such as 5,9,1.")] = None,
    text: Annotated[Path | None, typer.Option(help="A file with the answer's text; needs --model.")] = None,
    model: Annotated[Path | None, typer.Option(help="A folder with the model's tokenizer.")] = None,
    json: Json = False,
) -> None:
    """Check the signed order, receipts and settlement of an answer. Needs no network.

    Ends with 1 where answer or text are not what was settled, with an error where a seal does not hold.
    """
    from metainf.api import ledger as verbs
    from metainf.domain import BadInput

    if answer is not None and not re.fullmatch(r"\d+(,\d+)*", answer):
        raise BadInput(f"expected tokens such as 5,9,1, found {answer[:40]!r}")
    tokens = None if answer is None else [int(each) for each in answer.split(",")]
    found = verbs.verify(path, tokens, None if text is None else _read(text), model)
    if json:
        print_json(found)
    else:
        typer.echo(f"order      {found.transaction} of {found.payer}")
        typer.echo(f"settled by {found.signed_by}, recorded by {found.recorded_by or 'no ledger'}")
        typer.echo(f"tokens     {found.tokens} through all blocks, {found.paid_nanousd * NANO:.9f} USD")
        for share in found.shares:
            typer.echo(f"           {share.nanousd * NANO:.9f} USD to {share.node}")
        if found.answer is not None:
            typer.echo("answer     " + ("the one that was settled" if found.answer else "ANOTHER ONE"))
        if found.text is not None:
            typer.echo("text       " + TEXTS[found.text])
    if found.answer is False or found.text == "another":
        raise typer.Exit(1)


def _read(path: Path) -> str:
    from metainf.domain import BadInput

    try:
        with path.open(encoding="utf-8", newline="") as opened:
            return opened.read()
    except (OSError, ValueError) as error:
        raise BadInput(f"expected a text in {path}: {error}") from None


def _show(found: object, json: bool) -> None:
    from metainf.api.ledger import Summary

    assert isinstance(found, Summary)
    if json:
        print_json(found)
        return
    rows = [(account, nanousd * NANO) for account, nanousd in found.balances.items()]
    table(("account", "USD"), [*rows, ("held for open orders", found.held * NANO)])
    typer.echo(
        f"{found.entries} entries; orders: {found.open_orders} open, {found.settled_orders} settled, "
        f"{found.refunded_orders} refunded; head {found.head}"
    )
