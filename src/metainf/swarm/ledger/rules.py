"""What a ledger admits, and what each entry does to its accounts. Pure: the instant is part of the entry."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from metainf.domain.base import Frozen
from metainf.swarm.ledger.words import MOST_NANOUSD, MOST_RECEIPTS, Deposit, Order, Settlement, Withdrawal
from metainf.swarm.ledger.work import chain, shares
from metainf.swarm.plan.table import SKEW_S
from metainf.swarm.trust.sealed import MOST_BYTES, digest, opened
from metainf.swarm.trust.signing import Refused, Replayed
from metainf.swarm.words import Digest

START = digest(b"metainf ledger 1")
"""What the first entry follows."""
Text = Annotated[str, Field(max_length=MOST_BYTES)]
Kind = Literal["deposit", "order", "settlement", "refund", "withdrawal"]


class Entry(Frozen):
    """One line of the ledger: what was signed, when it was admitted, which line it follows. A refund, which
    anybody may ask for after the deadline, names its order alone."""

    version: Literal[1] = 1
    seq: NonNegativeInt
    previous: Digest
    at_s: NonNegativeFloat
    kind: Kind
    sealed: Text | None = None
    receipts: tuple[Text, ...] = Field(default=(), max_length=MOST_RECEIPTS)
    order: Digest | None = None

    @property
    def digest(self) -> str:
        """By which the next entry names this one."""
        return digest(self.canonical())


@dataclass(frozen=True)
class Escrow:
    """Money held back for an order until it is settled, or refunded after its deadline."""

    sealed: str
    order: Order
    state: Literal["open", "settled", "refunded"] = "open"


@dataclass
class Accounts:
    """The state that all entries lead to. `operator` alone may tell of deposits."""

    operator: str
    count: int = 0
    head: str = START
    at_s: float = 0.0
    balances: dict[str, int] = field(default_factory=dict)
    nonces: dict[str, int] = field(default_factory=dict)
    escrows: dict[str, Escrow] = field(default_factory=dict)
    deposited: int = 0
    withdrawn: int = 0

    @property
    def held(self) -> int:
        """Nanousd in open escrows."""
        return sum(each.order.price_nanousd for each in self.escrows.values() if each.state == "open")

    def apply(self, entry: Entry) -> None:
        """Admit the next entry. Raises Refused (Replayed for what was seen), and then nothing has changed."""
        if entry.seq != self.count or entry.previous != self.head:
            raise Refused(f"expected entry {self.count} after {self.head[:20]}, found {entry.seq}")
        if entry.at_s < self.at_s:
            raise Refused(f"expected an instant of at least {self.at_s:.3f}, found {entry.at_s:.3f}")
        {
            "deposit": self._deposit,
            "order": self._order,
            "settlement": self._settle,
            "refund": self._refund,
            "withdrawal": self._withdraw,
        }[entry.kind](entry)
        self.count, self.head, self.at_s = entry.seq + 1, entry.digest, entry.at_s

    def _deposit(self, entry: Entry) -> None:
        found = opened(Deposit, _sealed(entry))
        if found.signer != self.operator:
            raise Refused(f"only the operator {self.operator} tells of deposits, not {found.signer}")
        reference = f"deposit {found.word.reference}"
        if reference in self.nonces:
            raise Replayed(f"the {reference} is known already")
        if self.deposited + found.word.nanousd > MOST_NANOUSD:
            raise Refused(f"expected at most {MOST_NANOUSD} nanousd in all")
        self.nonces[reference] = 0
        self._add(found.word.account, found.word.nanousd)
        self.deposited += found.word.nanousd

    def _order(self, entry: Entry) -> None:
        text = _sealed(entry)
        found = chain(text, ())
        order = found.order
        if found.transaction in self.escrows:
            raise Replayed("this order is known already")
        self._fresh(order.payer, order.nonce)
        if order.issued_s > entry.at_s + SKEW_S:
            raise Refused("the order was issued in the future: set the clocks")
        if order.deadline_s <= entry.at_s:
            raise Refused("the deadline of the order is over")
        self._take(order.payer, order.price_nanousd)
        self.nonces[order.payer] = order.nonce
        self.escrows[found.transaction] = Escrow(text, order)

    def _settle(self, entry: Entry) -> None:
        told = opened(Settlement, _sealed(entry))
        escrow = self._open(told.word.order)
        if told.signer != escrow.order.judge:
            raise Refused(f"only {escrow.order.judge} may settle the order, not {told.signer}")
        if entry.at_s > escrow.order.deadline_s:
            raise Refused("the deadline is over: the order can only be refunded")
        found = chain(escrow.sealed, entry.receipts)
        if told.word.root != found.root:
            raise Refused("the settlement names other receipts than those it comes with")
        if told.word.shares != shares(escrow.order, found.receipts):
            raise Refused("the shares are not those that the receipts justify")
        paid = 0
        for share in told.word.shares:
            self._add(share.node, share.nanousd)
            paid += share.nanousd
        self._add(escrow.order.payer, escrow.order.price_nanousd - paid)
        self.escrows[told.word.order] = Escrow(escrow.sealed, escrow.order, "settled")

    def _refund(self, entry: Entry) -> None:
        escrow = self._open(entry.order or "")
        if entry.at_s <= escrow.order.deadline_s:
            raise Refused("an order is refunded after its deadline, not before")
        self._add(escrow.order.payer, escrow.order.price_nanousd)
        self.escrows[entry.order or ""] = Escrow(escrow.sealed, escrow.order, "refunded")

    def _withdraw(self, entry: Entry) -> None:
        found = opened(Withdrawal, _sealed(entry))
        if found.signer != found.word.account:
            raise Refused(f"{found.signer} asks for money of {found.word.account}")
        self._fresh(found.word.account, found.word.nonce)
        self._take(found.word.account, found.word.nanousd)
        self.nonces[found.word.account] = found.word.nonce
        self.withdrawn += found.word.nanousd

    def _open(self, transaction: str) -> Escrow:
        escrow = self.escrows.get(transaction)
        if escrow is None:
            raise Refused("no such order is held")
        if escrow.state != "open":
            raise Replayed(f"the order is {escrow.state} already")
        return escrow

    def _fresh(self, account: str, nonce: int) -> None:
        known = self.nonces.get(account, -1)
        if nonce <= known:
            raise Replayed(f"expected a nonce of {account} above {known}, found {nonce}")

    def _add(self, account: str, nanousd: int) -> None:
        self.balances[account] = self.balances.get(account, 0) + nanousd

    def _take(self, account: str, nanousd: int) -> None:
        there = self.balances.get(account, 0)
        if there < nanousd:
            raise Refused(f"expected {nanousd:,} nanousd on the account of {account}, found {there:,}")
        self.balances[account] = there - nanousd


def replayed(operator: str, entries: Iterable[Entry]) -> Accounts:
    """The state after all entries. Raises Refused at the first that does not hold."""
    accounts = Accounts(operator)
    for entry in entries:
        accounts.apply(entry)
    return accounts


def _sealed(entry: Entry) -> str:
    if entry.sealed is None:
        raise Refused(f"expected a sealed {entry.kind}, found none")
    return entry.sealed
