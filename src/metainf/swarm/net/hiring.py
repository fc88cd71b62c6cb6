"""Nodes that do not take the order of a session: they have not failed, and the order is what is wrong."""

from dataclasses import dataclass, field

from metainf.domain import NoFeasible
from metainf.swarm.net.paid import USED
from metainf.swarm.net.stream import NotHired
from metainf.swarm.plan.routing import MissingBlocks
from metainf.swarm.words import Span

ORDER_USED, NOT_PAID = "order_used", "not_paid"
"""Codes of errors: an order that another session has shown, of which a new one may help, and any other."""
MOST_TOLD = 4


class NotPaid(NoFeasible):
    """Nodes hold the blocks, but do not work for this order; the message tells what they said."""

    def __init__(self, whys: dict[str, str]) -> None:
        self.code = ORDER_USED if any(USED in why for why in whys.values()) else NOT_PAID
        told = "; ".join(f"{node[:11]}: {why}" for node, why in list(whys.items())[:MOST_TOLD])
        super().__init__(f"expected nodes to work for this order, found {len(whys)} that do not ({told})")


@dataclass
class Unhired:
    """The nodes that refused a session's order, for which blocks, and why."""

    spans: dict[str, Span] = field(default_factory=dict)
    whys: dict[str, str] = field(default_factory=dict)

    def add(self, error: NotHired) -> None:
        """Another one."""
        self.spans[error.stage.node], self.whys[error.stage.node] = error.stage.span, error.why

    def blamed(self, error: MissingBlocks) -> NoFeasible:
        """What to say where blocks are missing: that they are not paid for, where these nodes hold them."""
        missing = {
            node: self.whys[node]
            for node, span in self.spans.items()
            if any(span.start < gap.end and gap.start < span.end for gap in error.missing)
        }
        return NotPaid(missing) if missing else error
