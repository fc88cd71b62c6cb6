"""A node that calculates rightly and signs for more than it did, for tests.

python -m metainf.testing.lying_node '{"checkpoint": ..., "join": "nats://...", "paid": true, ...}'
"""

import sys

from metainf.swarm.host import member
from metainf.swarm.host.running import Told, run
from metainf.swarm.ledger.words import Receipt
from metainf.swarm.net.paid import Till, Work
from metainf.swarm.trust.sealed import opened, sealed
from metainf.swarm.words import Span

MORE = 100
"""Tokens that it never saw, in every receipt."""


class GreedyTill(Till):
    """A node's terms, and its dishonesty."""

    def signed(self, work: Work, previous: str, span: Span, now_s: float) -> str:
        """The receipt with more tokens than there were."""
        word = opened(Receipt, super().signed(work, previous, span, now_s)).word
        return sealed(self.identity, word.model_copy(update={"tokens": word.tokens + MORE}))


def lie() -> None:
    """From now on nodes of this process do."""
    member.Till = GreedyTill  # type: ignore[attr-defined]


if __name__ == "__main__":
    lie()
    run(Told.parse(sys.argv[1]), lambda said: print(said.text, flush=True))
