"""The words of the ledger. Money is whole billionths of a US dollar (`nanousd`); instants are seconds
since the epoch; work is counted in block passes: one block, one token."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from metainf.domain.base import Frozen
from metainf.swarm.words import Digest, NodeId, Span

MOST_NANOUSD = 10**18
MOST_PASSES = 10**9
MOST_RECEIPTS = 64
MOST_WAIT_S = 7 * 86_400.0
Money = Annotated[int, Field(ge=0, le=MOST_NANOUSD)]


class Order(Frozen):
    """What a payer promises for one request, signed. Its transaction is the digest of the sealed order.

    `request` is a digest of the request and a secret salt, so that it tells nothing of the prompt. The nonce
    of a payer only grows. Where there is an `arbiter`, one whom both sides trust, only the arbiter settles:
    a payer who settles alone can leave nodes out.
    """

    version: Literal[1] = 1
    payer: NodeId
    nonce: NonNegativeInt
    model: Digest
    num_blocks: PositiveInt
    request: Digest
    nanousd_per_pass: Money
    most_passes: Annotated[int, Field(gt=0, le=MOST_PASSES)]
    arbiter: NodeId | None = None
    issued_s: NonNegativeFloat
    deadline_s: NonNegativeFloat

    @model_validator(mode="after")
    def _consistent(self) -> "Order":
        if not self.issued_s < self.deadline_s <= self.issued_s + MOST_WAIT_S:
            raise ValueError(f"expected a deadline within {MOST_WAIT_S:.0f} s after issued_s")
        if self.price_nanousd > MOST_NANOUSD:
            raise ValueError(f"expected a price of at most {MOST_NANOUSD} nanousd")
        return self

    @property
    def judge(self) -> str:
        """Who alone may settle the order."""
        return self.arbiter or self.payer

    @property
    def price_nanousd(self) -> int:
        """What is held back: the most that the request can cost."""
        return self.nanousd_per_pass * self.most_passes


class Receipt(Frozen):
    """A node's word that it ran tokens [first, first + tokens) of an order through its span.

    `outputs` is the digest of the activations that it sent, in order: it binds the node to its own bytes, for
    an audit later. `previous` is the digest of the sealed receipt before it, of the sealed order for the
    first.
    """

    version: Literal[1] = 1
    order: Digest
    node: NodeId
    previous: Digest
    span: Span
    first: NonNegativeInt = 0
    tokens: Annotated[int, Field(gt=0, le=MOST_PASSES)]
    outputs: Digest
    issued_s: NonNegativeFloat

    @property
    def passes(self) -> int:
        """Block passes of this receipt."""
        return len(self.span) * self.tokens


class Share(Frozen):
    """What one node is paid."""

    node: NodeId
    nanousd: Money


class Settlement(Frozen):
    """The end of an order, signed by its judge: who is paid what, for which receipts.

    `root` is the Merkle root of the sealed receipts, `answer` the digest of what the payer was given.
    """

    version: Literal[1] = 1
    order: Digest
    root: Digest
    answer: Digest
    shares: tuple[Share, ...] = Field(max_length=MOST_RECEIPTS)

    @model_validator(mode="after")
    def _each_once(self) -> "Settlement":
        if len({share.node for share in self.shares}) != len(self.shares):
            raise ValueError("expected each node once among the shares")
        return self


class Deposit(Frozen):
    """Money that the operator of the ledger has received for an account. Signed by the operator."""

    version: Literal[1] = 1
    account: NodeId
    nanousd: Annotated[int, Field(gt=0, le=MOST_NANOUSD)]
    reference: str = Field(min_length=1, max_length=128)


class Withdrawal(Frozen):
    """Money that an account takes out; signed by the account. `nonce` only grows, with that of its orders."""

    version: Literal[1] = 1
    account: NodeId
    nonce: NonNegativeInt
    nanousd: Annotated[int, Field(gt=0, le=MOST_NANOUSD)]
