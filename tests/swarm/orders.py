"""Orders, receipts and settlements for the tests of the ledger, all truly signed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metainf.swarm.ledger.words import Deposit, Order, Receipt, Settlement
from metainf.swarm.ledger.work import chain, settled
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.sealed import digest, sealed
from metainf.swarm.words import Span

NOW = 1_800_000_000.0
MODEL = "b2:" + "0" * 32


def person(name: str) -> Identity:
    """An identity that is the same each time."""
    return Identity(hashlib.sha256(name.encode()).digest())


OPERATOR, PAYER, ARBITER = person("operator"), person("payer"), person("arbiter")
NODES = tuple(person(f"node {number}") for number in range(4))


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now_s: float = NOW

    def __call__(self) -> float:
        return self.now_s


def deposit(
    nanousd: int = 10**9, account: Identity = PAYER, reference: str = "bank 1", by: Identity = OPERATOR
) -> str:
    return sealed(by, Deposit(account=account.node, nanousd=nanousd, reference=reference))


def order(nonce: int = 1, by: Identity = PAYER, **other: Any) -> str:
    told: dict[str, Any] = {
        "payer": PAYER.node,
        "nonce": nonce,
        "model": MODEL,
        "num_blocks": 6,
        "request": digest(b"salt and prompt"),
        "nanousd_per_pass": 10,
        "most_passes": 1200,
        "arbiter": ARBITER.node,
        "issued_s": NOW,
        "deadline_s": NOW + 60,
    }
    return sealed(by, Order(**(told | other)))


def receipts(placed: str, parts: Sequence[tuple[Identity, int, int, int, int]]) -> list[str]:
    """Sealed receipts one after another: node, blocks [start, end), first token, tokens."""
    made: list[str] = []
    for node, start, end, first, tokens in parts:
        word = Receipt(
            order=digest(placed),
            node=node.node,
            previous=digest(made[-1] if made else placed),
            span=Span(start=start, end=end),
            first=first,
            tokens=tokens,
            outputs=digest(f"{node.node} {start} {first}"),
            issued_s=NOW + 1,
        )
        made.append(sealed(node, word))
    return made


WHOLE = ((NODES[0], 0, 3, 0, 20), (NODES[1], 3, 6, 0, 20))


def settlement(
    placed: str, done: Sequence[str], by: Identity = ARBITER, tokens: int = 20, **other: Any
) -> str:
    found = settled(chain(placed, done), digest(b"answer"), tokens)
    return sealed(by, found.model_copy(update=other) if other else found)


__all__ = [
    "ARBITER", "MODEL", "NODES", "NOW", "OPERATOR", "PAYER", "WHOLE", "Clock", "Settlement",
    "deposit", "order", "person", "receipts", "settlement",
]  # fmt: skip
