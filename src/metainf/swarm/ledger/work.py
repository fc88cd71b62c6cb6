"""What receipts show and what they are worth. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from metainf.domain import BadInput
from metainf.swarm.ledger import merkle
from metainf.swarm.ledger.words import MOST_RECEIPTS, Order, Receipt, Settlement, Share
from metainf.swarm.plan.table import missing
from metainf.swarm.trust.sealed import digest, opened
from metainf.swarm.trust.signing import Refused


@dataclass(frozen=True)
class Chain:
    """An order and its receipts, all seals checked, each receipt bound to the one before."""

    transaction: str
    order: Order
    receipts: tuple[Receipt, ...]
    root: str


def chain(order: str, receipts: Sequence[str]) -> Chain:
    """Check a sealed order and its sealed receipts. Raises Refused where a link does not hold."""
    if len(receipts) > MOST_RECEIPTS:
        raise Refused(f"expected at most {MOST_RECEIPTS} receipts, found {len(receipts)}")
    told = opened(Order, order)
    if told.signer != told.word.payer:
        raise Refused(f"{told.signer} signed an order of {told.word.payer}")
    transaction, previous, words = digest(order), digest(order), []
    for number, text in enumerate(receipts, 1):
        found = opened(Receipt, text)
        word = found.word
        if found.signer != word.node:
            raise Refused(f"receipt {number}: {found.signer} signed in the name of {word.node}")
        if word.order != transaction:
            raise Refused(f"receipt {number} is of another order")
        if word.previous != previous:
            raise Refused(f"receipt {number} does not follow the one before it")
        if word.span.end > told.word.num_blocks:
            raise Refused(f"receipt {number}: {word.span} goes beyond {told.word.num_blocks} blocks")
        previous = digest(text)
        words.append(word)
    return Chain(transaction, told.word, tuple(words), root_of(receipts))


def root_of(receipts: Sequence[str]) -> str:
    """The Merkle root of sealed receipts."""
    return f"sha256:{merkle.root([text.encode() for text in receipts]).hex()}"


def tokens_done(order: Order, receipts: Sequence[Receipt]) -> int:
    """The tokens that went through every block of the model, from the first on; gaps end the count."""
    edges = sorted({0, order.num_blocks, *(r.span.start for r in receipts), *(r.span.end for r in receipts)})
    least: int | None = None
    for low, high in pairwise(edges):
        over = [(r.first, r.first + r.tokens) for r in receipts if r.span.start <= low and high <= r.span.end]
        most = max((end for _, end in over), default=0)
        gaps = missing(over, most) if most else ()
        reached = gaps[0].start if gaps else most
        least = reached if least is None else min(least, reached)
    return least or 0


def passes_done(receipts: Sequence[Receipt]) -> dict[str, int]:
    """Block passes of each node. What a node ran twice counts once; what two nodes ran counts for both, since
    a replay after a failure is work too."""
    found: dict[str, int] = {}
    for node in sorted({receipt.node for receipt in receipts}):
        mine = [receipt for receipt in receipts if receipt.node == node]
        edges = sorted({edge for r in mine for edge in (r.span.start, r.span.end)})
        total = 0
        for low, high in pairwise(edges):
            over = [(r.first, r.first + r.tokens) for r in mine if r.span.start <= low and high <= r.span.end]
            total += (high - low) * _length(over)
        found[node] = total
    return found


def shares(order: Order, receipts: Sequence[Receipt]) -> tuple[Share, ...]:
    """What each node has earned: its passes at the order's price; where that is more than was held back, all
    is divided in proportion, to the last nanousd."""
    passes = passes_done(receipts)
    total = sum(passes.values())
    if total <= order.most_passes:
        return tuple(Share(node=node, nanousd=n * order.nanousd_per_pass) for node, n in passes.items())
    held = order.price_nanousd
    whole = {node: held * n // total for node, n in passes.items()}
    rest = {node: held * n % total for node, n in passes.items()}
    for node in sorted(rest, key=lambda each: (-rest[each], each))[: held - sum(whole.values())]:
        whole[node] += 1
    return tuple(Share(node=node, nanousd=amount) for node, amount in whole.items())


def settled(found: Chain, answer: str, tokens: int) -> Settlement:
    """The settlement that the receipts justify, to be sealed by the order's judge. `answer` is the digest of
    what was given; `tokens` went through the model. Raises BadInput where receipts do not cover them."""
    done = tokens_done(found.order, found.receipts)
    if done < tokens:
        raise BadInput(f"expected receipts for {tokens} tokens through all blocks, found {done}")
    return settlement_of(found, answer)


def settlement_of(found: Chain, answer: str) -> Settlement:
    """The same, however far the receipts reach: a node that gave none takes no other's pay."""
    paid = shares(found.order, found.receipts)
    return Settlement(order=found.transaction, root=found.root, answer=answer, shares=paid)


def _length(spans: Sequence[tuple[int, int]]) -> int:
    """Positions that some of the spans cover."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
