"""Work for money: what a node asks of an order, what it signs for, and how a client checks the receipt.

Both sides count the same: tokens from the first position on, and a digest over the bytes that went from the
node to the client, in order.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from metainf.domain import BadInput
from metainf.swarm.ledger.words import Order, Receipt
from metainf.swarm.ledger.work import chain
from metainf.swarm.plan.table import SKEW_S
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.sealed import digest, opened, sealed
from metainf.swarm.trust.signing import Refused, Replayed
from metainf.swarm.words import Span, Stage

MOST_ORDERS = 10_000
MOST_AHEAD_S = 90_000.0
"""So far ahead may the deadline of an order lie: a request waits in a queue for a day at most."""
USED = "this nonce of the payer was used in another session"
OVER = "the deadline of the order is over"
Held = Callable[[str], bool]
"""Whether the money of a transaction is held back, by whatever ledger the node reads."""


@dataclass
class Tally:
    """What a session sent: tokens [first, first + tokens) and a digest over their bytes."""

    first: int = 0
    tokens: int = 0
    _sum: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, position: int, tokens: int, data: bytes) -> None:
        """An answer. One that does not follow the last begins anew."""
        if position != self.first + self.tokens or not self.tokens:
            self.first, self.tokens, self._sum = position, 0, hashlib.sha256()
        self.tokens += tokens
        self._sum.update(data)

    @property
    def outputs(self) -> str:
        """The digest so far."""
        return f"sha256:{self._sum.hexdigest()}"


@dataclass
class Job:
    """An order as this node knows it: who showed it in which session, and the passes done for it."""

    transaction: str
    order: Order
    user: tuple[str, str]
    passes: int = 0


@dataclass
class Work:
    """What one stream does for an order."""

    job: Job
    tally: Tally = field(default_factory=Tally)


def full(most: int) -> str:
    """What is said where so many orders are remembered."""
    return f"{most} orders are known, more are not taken"


def fitting(order: Order, subject: tuple[str, int], now_s: float) -> None:
    """Whether an order is for a model and its number of blocks, and for now. Raises Refused."""
    if (order.model, order.num_blocks) != subject:
        wanted, found = (
            f"{count} blocks of {model}" for model, count in (subject, (order.model, order.num_blocks))
        )
        raise Refused(f"expected an order for {wanted}, found one for {found}")
    if order.deadline_s <= now_s:
        raise Refused(OVER)
    if order.deadline_s > now_s + MOST_AHEAD_S:
        raise Refused(f"the deadline of the order is more than {MOST_AHEAD_S:,.0f} s ahead")
    if order.issued_s > now_s + SKEW_S:
        raise Refused("the order was issued in the future: set the clocks")


@dataclass
class Till:
    """A node's terms. `demanded`: nothing is calculated without an order of at least `least_nanousd` for a
    block pass. `held` asks a ledger whether the money is there; without it the node trusts the payer."""

    identity: Identity
    demanded: bool = False
    least_nanousd: int = 0
    held: Held | None = None
    jobs: dict[tuple[str, int], Job] = field(default_factory=dict)

    def hired(self, text: str, subject: tuple[str, int], user: tuple[str, str], now_s: float) -> Work:
        """Check an order for a model and its number of blocks. `user` is the caller and its session: a nonce
        counts for one session only, which may come back with more stages. Raises Refused."""
        found = chain(text, ())
        order, key = found.order, (found.order.payer, found.order.nonce)
        fitting(order, subject, now_s)
        if order.nanousd_per_pass < self.least_nanousd:
            told = f"{self.least_nanousd} nanousd for a block pass, found {order.nanousd_per_pass}"
            raise Refused(f"expected at least {told}")
        self.jobs = {at: job for at, job in self.jobs.items() if job.order.deadline_s > now_s}
        known = self.jobs.get(key)
        if known is not None and (known.transaction, known.user) != (found.transaction, user):
            raise Replayed(USED)
        if self.held is not None and not self.held(found.transaction):  # one that is known may be settled
            raise Refused("the ledger does not hold the money of this order")
        if known is None:
            if len(self.jobs) >= MOST_ORDERS:
                raise Refused(full(MOST_ORDERS))
            known = self.jobs[key] = Job(found.transaction, order, user)
        return Work(known)

    def charged(self, work: Work | None, passes: int) -> None:
        """Before so many block passes. Raises Refused where they are not paid for."""
        if work is None:
            if self.demanded:
                raise Refused(f"expected an order: {self.least_nanousd} nanousd for a block pass at least")
            return
        if work.job.passes + passes > work.job.order.most_passes:
            raise Refused(f"the order pays for {work.job.order.most_passes} passes, all are used")
        work.job.passes += passes

    def signed(self, work: Work, previous: str, span: Span, now_s: float) -> str:
        """The sealed receipt for what a stream sent. Raises Refused for a `previous` that is no digest."""
        tally = work.tally
        try:
            word = Receipt.of(
                {
                    "order": work.job.transaction,
                    "node": self.identity.node,
                    "previous": previous,
                    "span": span.model_dump(),
                    "first": tally.first,
                    "tokens": tally.tokens,
                    "outputs": tally.outputs,
                    "issued_s": now_s,
                }
            )
        except BadInput as error:
            raise Refused(str(error)[:300]) from None
        return sealed(self.identity, word)


def believed(text: str, order: str, previous: str, stage: Stage, tally: Tally) -> Receipt:
    """The receipt, if it says what the client has seen. Raises Refused."""
    found = opened(Receipt, text)
    word = found.word
    if not found.signer == word.node == stage.node:
        raise Refused(f"{found.signer} signed, not {stage.node}")
    if (word.order, word.previous) != (digest(order), previous):
        raise Refused("it is of another order, or follows another receipt")
    if (word.span, word.first, word.tokens) != (stage.span, tally.first, tally.tokens):
        seen = f"{tally.tokens} tokens through {stage.span}"
        raise Refused(f"expected {seen}, found {word.tokens} through {word.span}")
    if word.outputs != tally.outputs:
        raise Refused("it is of other activations than those that came")
    return word
