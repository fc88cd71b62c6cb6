"""What one agent remembers of consumer groups: whether they answered. How soon is in what they announce."""

from collections.abc import Callable
from hashlib import blake2b

from metainf.swarm.trust.reputation import Event, Policy, Standing, after, availability

POLICY = Policy(half_life_s=600.0, horizon=8.0)
"""Groups are many consumers, of which some come and go: an hour later nearly all is forgotten."""
LEAST = 0.1


class Believed:
    """Reputations of groups from LEAST to 1, which is that of a group of which nothing is known."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since the epoch."""
        self.clock = clock
        self._standings: dict[str, Standing] = {}

    def saw(self, group: str, failed: bool) -> None:
        """A request is over."""
        kind = "failed" if failed else "served"
        event = Event.of({"node": _name(group), "at_s": self.clock(), "kind": kind})
        self._standings[group] = after(self._standings.get(group), event, POLICY)

    def reputation(self, group: str) -> float:
        """As groups are charged by (`deciding.expected_s`)."""
        known = self._standings.get(group)
        if known is None:
            return 1.0
        now_s = self.clock()
        fresh = availability(Standing(node=known.node, first_s=now_s, as_of_s=now_s), now_s, POLICY)
        able = float((availability(known, now_s, POLICY) / fresh) ** POLICY.horizon)
        return max(LEAST, min(1.0, able))


def _name(group: str) -> str:
    """Groups have names that nodes may not have."""
    return f"group-{blake2b(group.encode(), digest_size=8).hexdigest()}"
