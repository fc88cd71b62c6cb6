"""A client that pays: it makes an order for each text, gathers the receipts, and has the order settled.

An order whose judge is the payer is settled here. One with an arbiter becomes a claim, which the arbiter
settles with `settled`, wherever that is; until the deadline, after which the payer is refunded.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from metainf.domain import BadInput, MetaInfError
from metainf.swarm.ledger.book import Book, operator_of
from metainf.swarm.ledger.evidence import Claim, Evidence, answer_digest
from metainf.swarm.ledger.rules import Entry
from metainf.swarm.ledger.words import Order
from metainf.swarm.ledger.work import chain, settlement_of
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.sealed import digest, sealed
from metainf.swarm.trust.signing import Replayed

WAIT_S = 600.0
NONCES = 5
"""So often a nonce is drawn where other processes order for the same payer."""
ROOM = 2
"""An order pays for so many times the passes of a text without failures."""


class Keeper(Protocol):
    """What holds money back and pays it: a ledger's file, or a contract (`host.chained`)."""

    def hold(self, order: str) -> None:
        """Hold back the price of a sealed order. Raises Refused, Replayed for one that is known."""

    def settle(self, order: str, settlement: str, receipts: Sequence[str]) -> Entry | None:
        """Pay what the receipts justify. Raises Refused, Replayed."""

    def last_nonce(self, payer: str) -> int:
        """The highest nonce of a payer that is known, -1 for none."""


@dataclass
class Purse:
    """Who pays, how much for a block pass (nanousd), and who settles. `book` is the ledger that holds the
    money back; `operator` its operator's key, where this process has it: evidence then shows the ledger."""

    payer: Identity
    nanousd_per_pass: int
    book: Keeper | None = None
    arbiter: str | None = None
    operator: Identity | None = None
    wait_s: float = WAIT_S

    def billed(
        self, model: str, num_blocks: int, asked: str, tokens: int, wait_s: float | None = None
    ) -> "Bill":
        """An order for one text of so many tokens, those of the prompt included, that ends in `wait_s` (as
        the purse has it by default). Raises Refused where the ledger does not admit it."""
        for left in reversed(range(NONCES)):
            order = self._order(model, num_blocks, asked, tokens, wait_s or self.wait_s)
            try:
                if self.book is not None:
                    self.book.hold(order)
                break
            except Replayed:  # another process of this payer was quicker: its nonce is the higher one
                if not left:
                    raise
        return Bill(order, self)

    def _order(self, model: str, num_blocks: int, asked: str, tokens: int, wait_s: float) -> str:
        now, salt = time.time(), os.urandom(16).hex()
        told = {
            "payer": self.payer.node,
            "nonce": self._nonce(now),
            "model": model,
            "num_blocks": num_blocks,
            "request": digest(f"{salt} {asked}"),
            "nanousd_per_pass": self.nanousd_per_pass,
            "most_passes": ROOM * num_blocks * tokens,
            "arbiter": self.arbiter,
            "issued_s": now,
            "deadline_s": now + wait_s,
        }
        return sealed(self.payer, Order.of(told))

    def _nonce(self, now_s: float) -> int:
        known = -1 if self.book is None else self.book.last_nonce(self.payer.node)
        return max(known + 1, int(now_s * 1e6))


@dataclass
class Bill:
    """One text's order, and what came of it. Where the judge is elsewhere (or the purse) there is a claim, no
    evidence; `problem` says why the ledger did not take the settlement. `answer` are the answer's tokens: a
    claim has none of them, since its judge need not know what was answered."""

    order: str
    purse: Purse | None = None
    session: str = field(default_factory=lambda: os.urandom(8).hex())
    claim: Claim | None = None
    evidence: Evidence | None = None
    problem: str = ""
    answer: tuple[int, ...] = ()

    @property
    def transaction(self) -> str:
        """By which everybody names it."""
        return digest(self.order)

    def close(self, receipts: Sequence[str], answer: Sequence[int]) -> None:
        """The text has ended, or was given up. Without receipts nothing is settled, and the order will be
        refunded."""
        if not receipts:
            return
        claim = Claim(order=self.order, receipts=tuple(receipts), answer=answer_digest(answer))
        self.claim, self.answer = claim, tuple(answer)
        if self.purse is not None:
            self.claimed(self.purse, claim, self.answer)

    def claimed(self, purse: Purse, claim: Claim, answer: Sequence[int]) -> None:
        """Settle a claim on this order, where the payer may, if it is of this answer's tokens."""
        if claim.order != self.order or claim.answer != answer_digest(answer):
            self.problem = "the claim is on another order, or of another answer"
            return
        self.claim, self.answer = claim, tuple(answer)
        if purse.arbiter in (None, purse.payer.node):
            try:
                made = settled(purse.payer, claim, purse.book, purse.operator)
                self.evidence = made.model_copy(update={"tokens": self.answer})
            except MetaInfError as error:
                self.problem = str(error)

    def told(self) -> dict[str, Any]:
        """What goes with the answer. Evidence has the answer's tokens in it, a claim has them beside it."""
        found: dict[str, Any] = {"transaction": self.transaction, "problem": self.problem or None}
        if self.evidence is not None:
            return found | {"evidence": self.evidence.model_dump(mode="json")}
        if self.claim is not None:
            return found | {"claim": self.claim.model_dump(mode="json"), "tokens": list(self.answer)}
        return found


def settled(
    judge: Identity, claim: Claim, book: Keeper | None = None, operator: Identity | None = None
) -> Evidence:
    """The judge settles a claim: it pays what the receipts justify, whether or not they cover the answer.
    Raises Refused where they do not hold or the ledger does not admit it, BadInput for another's order."""
    found = chain(claim.order, claim.receipts)
    if judge.node != found.order.judge:
        raise BadInput(
            f"expected the key of {found.order.judge}, who may settle this order, found {judge.node}"
        )
    settlement = sealed(judge, settlement_of(found, claim.answer))
    evidence = Evidence(order=claim.order, receipts=claim.receipts, settlement=settlement)
    if book is None:
        return evidence
    entry = book.settle(claim.order, settlement, claim.receipts)
    if operator is None or entry is None or not isinstance(book, Book):
        return evidence
    shown = {"entry": entry, "place": book.place(entry.seq), "head": book.head(operator)}
    return evidence.model_copy(update=shown)


def ledger_of(path: Path) -> Book:
    """The ledger in a file, which must be there: whose it is stands in it. Raises BadInput, StoreError."""
    return Book(path, operator_of(path), time.time)


def written(bill: Bill, path: Path, mode: str = "w") -> bool:
    """Write evidence (or the claim, for its judge) to a file; False where there is neither: nobody signed.
    Raises FileExistsError in the mode "x" where the file is there."""
    shown = bill.evidence or bill.claim
    if shown is not None:
        with path.open(mode, encoding="utf-8") as file:
            file.write(shown.canonical())
    return shown is not None
