"""What comes with an answer: the order, the nodes' receipts, the settlement, and its place in the ledger.

Everything in it can be checked offline, by whoever holds the answer.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from metainf.domain.base import Frozen
from metainf.swarm.ledger.book import Head, Place, included
from metainf.swarm.ledger.rules import Entry, Text
from metainf.swarm.ledger.words import MOST_PASSES, MOST_RECEIPTS, Settlement, Share
from metainf.swarm.ledger.work import chain, shares, tokens_done
from metainf.swarm.trust.sealed import digest, opened
from metainf.swarm.trust.signing import Refused
from metainf.swarm.words import Digest

MOST_EVIDENCE_BYTES = 8 * 2**20
Answer = Annotated[tuple[NonNegativeInt, ...], Field(max_length=MOST_PASSES)]
"""The tokens of an answer."""


class Claim(Frozen):
    """What an order's judge is given: the order and its receipts, sealed, and the digest of the answer."""

    version: Literal[1] = 1
    order: Text
    receipts: tuple[Text, ...] = Field(min_length=1, max_length=MOST_RECEIPTS)
    answer: Digest


class Evidence(Frozen):
    """`order`, `receipts`, `settlement` are sealed words; `entry`, `place`, `head` show that a ledger
    admitted the settlement (all three or none). `tokens` are the answer's, for the payer, who was given them:
    the settlement has their digest."""

    version: Literal[1] = 1
    order: Text
    receipts: tuple[Text, ...] = Field(max_length=MOST_RECEIPTS)
    settlement: Text
    entry: Entry | None = None
    place: Place | None = None
    head: Text | None = None
    tokens: Answer | None = None


class Checked(Frozen):
    """What evidence shows. `recorded_by` is the operator whose ledger admitted it, `answer` says whether the
    answer at hand is the one that was settled (None: none was given), `text` whether the text at hand is what
    its tokens say, or the beginning of it, as where a stop word ended it. `output` are the answer's tokens,
    where the evidence has them."""

    transaction: str
    payer: str
    signed_by: str
    tokens: int
    shares: tuple[Share, ...]
    paid_nanousd: Annotated[int, Field(ge=0)]
    recorded_by: str | None = None
    answer: bool | None = None
    text: Literal["whole", "beginning", "another"] | None = None
    output: tuple[int, ...] | None = None


def answer_digest(tokens: Sequence[int]) -> str:
    """The digest of an answer, over its tokens."""
    return digest(",".join(str(int(token)) for token in tokens))


def check(evidence: Evidence, answer: Sequence[int] | None = None) -> Checked:
    """Check every seal and link. Raises Refused at the first that does not hold."""
    found = chain(evidence.order, evidence.receipts)
    told = opened(Settlement, evidence.settlement)
    if told.signer != found.order.judge:
        raise Refused(f"{told.signer} signed the settlement that only {found.order.judge} may sign")
    if told.word.order != found.transaction or told.word.root != found.root:
        raise Refused("the settlement is of another order or of other receipts")
    if told.word.shares != shares(found.order, found.receipts):
        raise Refused("the shares are not those that the receipts justify")
    if evidence.tokens is not None and told.word.answer != answer_digest(evidence.tokens):
        raise Refused("the tokens are not those of the answer that was settled")
    return Checked(
        transaction=found.transaction,
        payer=found.order.payer,
        signed_by=told.signer,
        tokens=tokens_done(found.order, found.receipts),
        shares=told.word.shares,
        paid_nanousd=sum(share.nanousd for share in told.word.shares),
        recorded_by=_recorded(evidence),
        answer=None if answer is None else told.word.answer == answer_digest(answer),
        output=evidence.tokens,
    )


def likeness(text: str, said: str) -> Literal["whole", "beginning", "another"]:
    """How a text that somebody holds is like what the answer's tokens say."""
    if text == said:
        return "whole"
    return "beginning" if text and said.startswith(text) else "another"


def _recorded(evidence: Evidence) -> str | None:
    if evidence.entry is None and evidence.place is None and evidence.head is None:
        return None
    if evidence.entry is None or evidence.place is None or evidence.head is None:
        raise Refused("expected entry, place and head of the ledger together")
    entry, head = evidence.entry, opened(Head, evidence.head)
    if (
        entry.kind != "settlement"
        or entry.sealed != evidence.settlement
        or entry.receipts != evidence.receipts
    ):
        raise Refused("the ledger's entry is of another settlement")
    if not included(entry, evidence.place, head.word):
        raise Refused("the entry is not in the ledger whose head this is")
    return head.signer
