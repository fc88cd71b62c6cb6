"""The ledger as a file: entries in SQLite, each bound to the one before, admitted one at a time.

Several processes may write: an entry is admitted in a transaction that has read all before it. What is on
disk is checked from the first entry on when the file is opened, so that a changed line is found.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from metainf.domain import BadInput, StoreError
from metainf.domain.base import Frozen
from metainf.swarm.ledger import merkle
from metainf.swarm.ledger.rules import Accounts, Entry, Kind
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.sealed import sealed
from metainf.swarm.trust.signing import Refused
from metainf.swarm.words import Digest

BUSY_S = 10.0
TABLES = """
CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, entry TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class Head(Frozen):
    """What the operator signs from time to time: so many entries, under this Merkle root. Who keeps it can
    show later that history was changed."""

    version: Literal[1] = 1
    count: NonNegativeInt
    root: Digest
    at_s: NonNegativeFloat


class Place(Frozen):
    """Where an entry stands in the tree: enough to check it against a head without the ledger."""

    index: NonNegativeInt
    count: NonNegativeInt
    beside: tuple[Digest, ...]


class Book:
    """An open ledger. Use as a context."""

    def __init__(self, path: Path, operator: str, clock: Callable[[], float]) -> None:
        """Open or make the file for that operator (a node id); `clock` gives seconds since the epoch.

        Raises StoreError for a file that is no ledger or cannot be read, BadInput for one of another
        operator, Refused where an entry does not hold.
        """
        self.path, self.clock = path, clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.executescript(TABLES)
            self._base.execute("INSERT OR IGNORE INTO facts VALUES ('operator', ?)", (operator,))
            known = self._base.execute("SELECT value FROM facts WHERE name = 'operator'").fetchone()[0]
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"expected a ledger in {path}, found none that opens: {error}") from None
        if known != operator:
            raise BadInput(f"the ledger {path} belongs to {known}, not to {operator}")
        self.accounts = Accounts(operator)
        self._read()

    def __enter__(self) -> "Book":
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(
        self,
        kind: Kind,
        text: str | None = None,
        receipts: Sequence[str] = (),
        order: str | None = None,
    ) -> Entry:
        """Admit one entry and keep it. Raises Refused or StoreError, and then nothing was written."""
        with self._writing():
            self._read()
            entry = self._next({"kind": kind, "sealed": text, "receipts": list(receipts), "order": order})
            self.accounts.apply(entry)
            self._base.execute("INSERT INTO entries VALUES (?, ?)", (entry.seq, entry.canonical()))
        return entry

    def hold(self, order: str) -> None:
        """Hold back the price of a sealed order. Raises as `add`."""
        self.add("order", order)

    def settle(self, order: str, settlement: str, receipts: Sequence[str]) -> Entry:
        """Pay what the receipts of a sealed order, which is held here, justify. Raises as `add`."""
        return self.add("settlement", settlement, receipts)

    def last_nonce(self, payer: str) -> int:
        """The highest nonce of a payer, -1 where there is none."""
        return self.accounts.nonces.get(payer, -1)

    def holds(self, transaction: str) -> bool:
        """Whether the money of an order is held back now, as far as others have written."""
        self._read()
        escrow = self.accounts.escrows.get(transaction)
        return escrow is not None and escrow.state == "open"

    def _next(self, told: dict[str, Any]) -> Entry:
        at_s = max(self.clock(), self.accounts.at_s)
        where = {"seq": self.accounts.count, "previous": self.accounts.head, "at_s": at_s}
        try:
            return Entry.of({**where, **{name: value for name, value in told.items() if value is not None}})
        except BadInput as error:
            raise Refused(str(error)[:300]) from None

    def entries(self, since: int = 0) -> Iterator[Entry]:
        """All entries from a number on."""
        rows = self._base.execute("SELECT seq, entry FROM entries WHERE seq >= ? ORDER BY seq", (since,))
        for seq, text in rows.fetchall():
            try:
                entry = Entry.parse(text)
            except BadInput as error:
                raise StoreError(f"entry {seq} of {self.path} is damaged: {error}") from None
            if entry.canonical() != text:
                raise StoreError(f"entry {seq} of {self.path} is not in its canonical form")
            yield entry

    def head(self, identity: Identity) -> str:
        """The sealed head of now."""
        leaves = self._leaves()
        top = f"sha256:{merkle.root(leaves).hex()}"
        return sealed(identity, Head(count=len(leaves), root=top, at_s=self.clock()))

    def place(self, seq: int, count: int | None = None) -> Place:
        """The way from an entry to the root over the first `count` entries (all by default)."""
        leaves = self._leaves()[:count]
        beside = tuple(f"sha256:{each.hex()}" for each in merkle.proof(leaves, seq))
        return Place(index=seq, count=len(leaves), beside=beside)

    def _leaves(self) -> list[bytes]:
        rows = self._base.execute("SELECT entry FROM entries ORDER BY seq").fetchall()
        return [text.encode() for (text,) in rows]

    def _read(self) -> None:
        """Apply what others have written since."""
        for entry in self.entries(self.accounts.count):
            self.accounts.apply(entry)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time. What was applied but not written is forgotten: the state is read anew."""
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            self.accounts = Accounts(self.accounts.operator)
            self._read()
            raise StoreError(f"the ledger {self.path} cannot be written: {error}") from None


def operator_of(path: Path) -> str:
    """Whose ledger a file is. Raises BadInput where it is none."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            return str(base.execute("SELECT value FROM facts WHERE name = 'operator'").fetchone()[0])
    except (sqlite3.Error, TypeError) as error:
        raise BadInput(f"expected a ledger in {path}, found none that opens: {error}") from None


def included(entry: Entry, place: Place, head: Head) -> bool:
    """Whether the entry stands at its place under the head's root."""
    beside = [bytes.fromhex(each.removeprefix("sha256:")) for each in place.beside]
    top = bytes.fromhex(head.root.removeprefix("sha256:"))
    leaf = entry.canonical().encode()
    return place.count == head.count and merkle.proven(leaf, place.index, place.count, beside, top)
