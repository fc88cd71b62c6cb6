"""Texts that are paid through the contract on an Ethereum virtual machine instead of a ledger's file.

The contract reads neither orders nor receipts (docs/ledger.md): who pays, works or judges here checks them
before money moves, and the chain holds it. Wallets are known by links, which come by other means.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from metainf.domain import BadInput
from metainf.swarm.ledger.chain import ChainFailed, Escrows, linked
from metainf.swarm.ledger.words import Order, Settlement
from metainf.swarm.ledger.work import chain, shares
from metainf.swarm.net.paid import MOST_ORDERS, Till, Work
from metainf.swarm.trust.sealed import opened
from metainf.swarm.trust.signing import Refused, Replayed


@dataclass
class ChainBook:
    """A contract as one wallet uses it, in the place of a ledger's file. `wei_per_nanousd` is what a
    billionth of a US dollar is worth there, as all have agreed."""

    escrows: Escrows
    wei_per_nanousd: int
    wallets: dict[str, str] = field(default_factory=dict)
    """Of nodes and payers, by node id."""
    orders: dict[str, Order] = field(default_factory=dict)
    """Those seen here, by transaction."""

    def meet(self, link: str) -> str:
        """Learn whose wallet is whose from a sealed link; the node id. Raises Refused."""
        word = linked(link)
        self.wallets[word.node] = word.wallet
        return word.node

    def see(self, order: str) -> str:
        """Remember a sealed order, of which the chain has a digest only; its transaction. Raises Refused."""
        found = chain(order, ())
        if found.transaction not in self.orders and len(self.orders) >= MOST_ORDERS:
            self.orders.pop(next(iter(self.orders)))
        self.orders[found.transaction] = found.order
        return found.transaction

    def last_nonce(self, payer: str) -> int:
        """The highest nonce of a payer that was seen here, -1 for none: the contract reads none."""
        return max((each.nonce for each in self.orders.values() if each.payer == payer), default=-1)

    def hold(self, order: str) -> None:
        """Send the price of an order of this wallet. Raises Refused, Replayed, ChainFailed."""
        found = chain(order, ())
        self._mine(found.order.payer)
        arbiter = None if found.order.arbiter is None else self._wallet(found.order.arbiter)
        wei = found.order.price_nanousd * self.wei_per_nanousd
        try:
            self.escrows.open(found.order, found.transaction, arbiter, wei)
        except ChainFailed as error:
            raise Replayed(str(error)) if "known" in str(error) else error from None
        self.see(order)

    def holds(self, transaction: str) -> bool:
        """Whether the contract holds the whole price of an order that was seen here, for its judge and until
        its deadline. A chain that does not answer holds nothing."""
        order = self.orders.get(transaction)
        if order is None or order.payer not in self.wallets or order.judge not in self.wallets:
            return False
        try:
            held = self.escrows.state(self.escrows.key_of(self.wallets[order.payer], transaction))
        except (
            Exception
        ):  # of web3 and whatever is behind it, in many kinds: who does not answer holds nothing
            return False
        enough = held["amount"] >= order.price_nanousd * self.wei_per_nanousd > 0
        judged = str(held["judge"]).lower() == self.wallets[order.judge].lower()
        return enough and judged and not held["done"] and held["deadline"] >= int(order.deadline_s)

    def settle(self, order: str, settlement: str, receipts: Sequence[str]) -> None:
        """Pay the wallets of the nodes what the receipts justify, as the order's judge. Raises Refused,
        Replayed, ChainFailed."""
        found, told = chain(order, receipts), opened(Settlement, settlement)
        if told.signer != found.order.judge or told.word.order != found.transaction:
            raise Refused("the settlement is of another order, or not signed by its judge")
        if told.word.root != found.root or told.word.shares != shares(found.order, found.receipts):
            raise Refused("the settlement is not what its receipts justify")
        self._mine(found.order.judge)
        key = self.escrows.key_of(self._wallet(found.order.payer), found.transaction)
        wei = self.wei_per_nanousd
        paid = [(self._wallet(share.node), share.nanousd * wei) for share in told.word.shares]
        try:
            self.escrows.settle(key, told.word, paid, self.escrows.signed(key, told.word, paid))
        except ChainFailed as error:
            raise Replayed(str(error)) if "done" in str(error) else error from None

    def _wallet(self, node: str) -> str:
        if node not in self.wallets:
            raise BadInput(f"expected a link to the wallet of {node}, found none")
        return self.wallets[node]

    def _mine(self, node: str) -> None:
        if self._wallet(node) != self.escrows.account.address:
            raise Refused(f"this is not the wallet of {node}")


class ChainTill(Till):
    """A node's terms where it looks for the money in the contract: its own wallet must be linked, too."""

    def __init__(self, book: ChainBook, own: Till) -> None:
        super().__init__(own.identity, own.demanded, own.least_nanousd, book.holds)
        self.book = book

    def hired(self, text: str, subject: tuple[str, int], user: tuple[str, str], now_s: float) -> Work:
        """As of any till. Raises Refused."""
        if self.identity.node not in self.book.wallets:
            raise Refused("this node has no wallet that is linked to it")
        self.book.see(text)
        return super().hired(text, subject, user, now_s)
