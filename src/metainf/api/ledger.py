"""A ledger of orders and payments in a file, and what comes with an answer."""

import time
from collections.abc import Sequence
from pathlib import Path

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.swarm.host.paying import WAIT_S, Bill, Purse, ledger_of, settled, written
from metainf.swarm.ledger.book import Book
from metainf.swarm.ledger.evidence import (
    MOST_EVIDENCE_BYTES,
    Checked,
    Claim,
    Evidence,
    check,
    likeness,
)
from metainf.swarm.ledger.words import Deposit
from metainf.swarm.trust.identity import Identity, kept
from metainf.swarm.trust.sealed import sealed

__all__ = [
    "Bill", "Checked", "Evidence", "Purse", "Summary",
    "deposit", "head", "order", "purse", "refund_overdue", "settle", "summary", "verify", "written",
]  # fmt: skip


class Summary(Frozen):
    """What a ledger holds; money in nanousd."""

    operator: str
    entries: int
    head: str
    balances: dict[str, int]
    held: int
    open_orders: int
    settled_orders: int
    refunded_orders: int


def verify(
    path: Path,
    answer: Sequence[int] | None = None,
    text: str | None = None,
    tokenizer: Path | None = None,
) -> Checked:
    """Check the evidence in a file, offline. A `text` is compared with what the answer's tokens say in the
    words of the tokenizer in a folder; they are `answer`, or stand in the evidence.

    Raises BadInput (Refused) where a seal does not hold, MissingExtra without what reads a tokenizer."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"expected evidence in {path}: {error.strerror}") from None
    if len(data) > MOST_EVIDENCE_BYTES:
        raise BadInput(f"expected at most {MOST_EVIDENCE_BYTES:,} bytes of evidence, found {len(data):,}")
    found = check(Evidence.parse(data), answer)
    if text is None:
        return found
    tokens = found.output if answer is None else answer
    if tokenizer is None or tokens is None:
        missing = "the folder of the model's tokenizer" if tokenizer is None else "the answer's tokens"
        raise BadInput(f"expected {missing} to compare a text with, found none")
    from metainf.swarm.host.tokens import Tokens

    return found.model_copy(update={"text": likeness(text, Tokens(tokenizer).said(tokens))})


def deposit(path: Path, operator: Path, account: str, nanousd: int, reference: str) -> Summary:
    """Tell the ledger that money has come for an account. `operator` is the file with the operator's key;
    both files are made where they do not exist. Raises BadInput (Refused), StoreError."""
    identity = kept(operator)
    with _book(path, identity) as book:
        told = Deposit.of({"account": account, "nanousd": nanousd, "reference": reference})
        book.add("deposit", sealed(identity, told))
        return _summed(book)


def summary(path: Path, operator: str) -> Summary:
    """What the ledger of that operator (a node id) holds, after all its entries were checked."""
    if not path.is_file():
        raise BadInput(f"expected a ledger in {path}, found no file")
    with Book(path, operator, time.time) as book:
        return _summed(book)


def purse(payer: Path, nanousd_per_pass: int, ledger: Path | None, arbiter: str | None = None) -> Purse:
    """Who pays for texts: the key in a file, made there on first use. Without a ledger nothing is held back,
    and nodes have the payer's word alone. Raises BadInput."""
    book = None if ledger is None else ledger_of(ledger)
    return Purse(kept(payer), nanousd_per_pass, book, arbiter)


def order(
    ledger: Path, payer: Path, weights: tuple[str, int], tokens: int, nanousd_per_pass: int,
    arbiter: str | None = None, wait_s: float = WAIT_S,
) -> str:  # fmt: skip
    """A sealed order of a payer for one text of at most so many tokens, prompt and answer together, whose
    money the ledger holds back from now on, for `wait_s` seconds. `weights` are the digest of a model and its
    number of blocks. Raises BadInput (Refused), StoreError."""
    made = purse(payer, nanousd_per_pass, ledger, arbiter)
    return made.billed(*weights, "", tokens, wait_s).order


def settle(claim: Path, judge: Path, ledger: Path | None = None) -> Evidence:
    """The judge of an order settles the claim in a file. Raises BadInput (Refused), StoreError."""
    try:
        told = Claim.parse(claim.read_bytes()[:MOST_EVIDENCE_BYTES])
    except OSError as error:
        raise BadInput(f"expected a claim in {claim}: {error.strerror}") from None
    return settled(kept(judge), told, None if ledger is None else ledger_of(ledger))


def refund_overdue(path: Path, operator: Path) -> tuple[str, ...]:
    """Give back what is held for orders whose deadline is over; their transactions."""
    with _book(path, kept(operator)) as book:
        now = time.time()
        late = [
            transaction
            for transaction, each in book.accounts.escrows.items()
            if each.state == "open" and each.order.deadline_s < now
        ]
        for transaction in late:
            book.add("refund", order=transaction)
        return tuple(late)


def head(path: Path, operator: Path) -> str:
    """The sealed Merkle root of all entries, for others to keep."""
    identity = kept(operator)
    with _book(path, identity) as book:
        return book.head(identity)


def _book(path: Path, identity: Identity) -> Book:
    return Book(path, identity.node, time.time)


def _summed(book: Book) -> Summary:
    found = book.accounts
    states = [each.state for each in found.escrows.values()]
    return Summary(
        operator=found.operator,
        entries=found.count,
        head=found.head,
        balances=dict(sorted(found.balances.items())),
        held=found.held,
        open_orders=states.count("open"),
        settled_orders=states.count("settled"),
        refunded_orders=states.count("refunded"),
    )
