"""Standings in a SQLite file: what one client, or all clients of one operator, remember of nodes.

Every write is one transaction, so that a process that dies in the middle leaves the file as it was, and
several processes may share it.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from metainf.domain import BadInput
from metainf.swarm.trust.reputation import (
    Event,
    Policy,
    Standing,
    after,
    audit_share,
    on_trial,
    quarantined_until_s,
    reputation,
)

SCHEMA = "create table if not exists standing (node text primary key, told text not null) without rowid"
WAIT_S = 10.0


@dataclass(frozen=True)
class Believed:
    """What a route is chosen by: reputations for `routing.Client.reputation`, whom to `avoid` whatever comes,
    and who should get no work before it passed its trials, as long as others are there."""

    reputation: dict[str, float] = field(default_factory=dict)
    quarantined: frozenset[str] = frozenset()
    on_trial: frozenset[str] = frozenset()

    @property
    def avoid(self) -> frozenset[str]:
        return self.quarantined | self.on_trial


class Reputations:
    """The file. `clock` gives seconds since the epoch."""

    def __init__(self, path: Path, clock: Callable[[], float], policy: Policy | None = None) -> None:
        """Made where it does not exist. Raises BadInput for a file that is something else."""
        self.path, self.clock, self.policy = path, clock, policy or Policy()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as file:
            file.execute("pragma journal_mode = wal")
            file.execute(SCHEMA)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or nothing."""
        file = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
        try:
            yield file
        except sqlite3.DatabaseError as error:
            raise BadInput(
                f"expected a file of reputations in {self.path}, found {error}: move it away to begin anew"
            ) from None
        finally:
            file.close()

    def record(self, events: Iterable[Event]) -> None:
        """Remember what nodes did."""
        with self._opened() as file:
            file.execute("begin immediate")
            try:
                for event in events:
                    standing = after(self._read(file, event.node), event, self.policy)
                    file.execute("replace into standing values (?, ?)", (event.node, standing.canonical()))
            except BaseException:
                file.execute("rollback")
                raise
            file.execute("commit")

    def standing(self, node: str) -> Standing | None:
        """What is remembered of a node; None for an unknown one."""
        return self.standings([node])[node]

    def standings(self, nodes: Collection[str]) -> dict[str, Standing | None]:
        """The same of several nodes, in one reading."""
        with self._opened() as file:
            return {node: self._read(file, node) for node in nodes}

    def _read(self, file: sqlite3.Connection, node: str) -> Standing | None:
        row = file.execute("select told from standing where node = ?", (node,)).fetchone()
        return Standing.parse(row[0]) if row else None

    def believed(self, nodes: Collection[str]) -> Believed:
        """How far these nodes are believed now."""
        now, policy = self.clock(), self.policy
        known = self.standings(nodes)
        struck = {
            n for n, each in known.items() if each is not None and quarantined_until_s(each, policy) > now
        }
        return Believed(
            reputation={node: reputation(each, now, policy) for node, each in known.items()},
            quarantined=frozenset(struck),
            on_trial=frozenset(
                n for n, each in known.items() if n not in struck and on_trial(each, now, policy)
            ),
        )

    def audit_share(self, node: str) -> float:
        """Which share of the node's answers should be audited (0 to 1)."""
        return self.audit_shares([node])[node]

    def audit_shares(self, nodes: Collection[str]) -> dict[str, float]:
        """The same for several nodes."""
        now = self.clock()
        return {node: audit_share(each, now, self.policy) for node, each in self.standings(nodes).items()}
