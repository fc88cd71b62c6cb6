"""Rules of reputation as a game plays them: none, Nesa's, MetaInf's, and one that knows who lies."""

from collections.abc import Callable

from metainf.swarm.trust.reputation import (
    Event,
    Policy,
    Standing,
    after,
    audit_share,
    nesa,
    on_trial,
    quarantined_until_s,
    reputation,
)


class Rule:
    """How a rule charges a node, and what it learns. This one charges nothing and learns nothing."""

    audits = False

    def charge(self, name: str) -> float:
        return 1.0

    def usable(self, name: str, now_s: float) -> int:
        """2 for a node to be used, 1 for one to be used where there is none such, 0 for one to avoid."""
        return 2

    def heard(self, event: Event) -> None:
        pass

    def share(self, name: str, now_s: float) -> float:
        return 0.0

    def tries(self, name: str, now_s: float) -> bool:
        """Whether the node should be given a trial now."""
        return False


class Nesa(Rule):
    """Nesa's rule: what counts is errors; with `audited` a share of the answers, and a lie is an error."""

    def __init__(self, audited: float = 0.0) -> None:
        self.audited, self.values = audited, dict[str, float]()

    def charge(self, name: str) -> float:
        return 1.0 + max(0.0, 1.0 - self.values.get(name, 1.0))

    def heard(self, event: Event) -> None:
        if event.kind != "passed":
            self.values[event.node] = nesa(self.values.get(event.node, 1.0), event.kind != "served")

    def share(self, name: str, now_s: float) -> float:
        return self.audited


class Ours(Rule):
    """MetaInf's rule. What fades within a game is looked at when a node is heard of."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.standings: dict[str, Standing] = {}
        self._charges: dict[str, float] = {}
        self._until: dict[str, float] = {}
        self._tried: set[str] = set()

    def charge(self, name: str) -> float:
        return self._charges.get(name, 1.9)

    def usable(self, name: str, now_s: float) -> int:
        if self._until.get(name, 0.0) > now_s:
            return 0
        return 2 if name in self._tried else 1

    def heard(self, event: Event) -> None:
        known = after(self.standings.get(event.node), event, self.policy)
        self.standings[event.node] = known
        self._charges[event.node] = 1 + max(0.0, 1 - reputation(known, event.at_s, self.policy))
        self._until[event.node] = quarantined_until_s(known, self.policy)
        if not on_trial(known, event.at_s, self.policy):
            self._tried.add(event.node)

    def share(self, name: str, now_s: float) -> float:
        return audit_share(self.standings.get(name), now_s, self.policy)

    def tries(self, name: str, now_s: float) -> bool:
        return self.usable(name, now_s) == 1


class Oracle(Rule):
    """Knows who lies."""

    def __init__(self, liars: Callable[[str], bool]) -> None:
        self.liars = liars

    def usable(self, name: str, now_s: float) -> int:
        return 0 if self.liars(name) else 2
