"""API keys: who may ask a service, and for what. Only digests are kept; a key is shown once, when made.

A key is 256 random bits, so that one fast digest of it cannot be searched through; no salt or slow hash
would add to that.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Literal, get_args

import sqlalchemy as sa
from pydantic import Field

from metainf.domain import BadInput, Frozen, UnknownName
from metainf.store.beside import KEYS, prepare
from metainf.store.database import Database

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each may do what those before it may."""
PREFIX = "metainf"
LONGEST_NAME = 100


class Key(Frozen):
    """What is known of a key: everything but the key. Times are ISO, UTC."""

    key_id: str
    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    scope: Scope
    made_at: str
    revoked_at: str | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key is good for this."""
        return self.revoked_at is None and SCOPES.index(self.scope) >= SCOPES.index(scope)


class Keyring:
    """The keys of one store. Raises StoreError when the database refuses.

    secret: gives a text of so many random bytes, hexadecimal (`secrets.token_hex`).
    """

    def __init__(self, database: Database, secret: Callable[[int], str]) -> None:
        self._database, self._secret = database, secret
        prepare(database)

    def add(self, name: str, scope: str, now: str) -> tuple[Key, str]:
        """A new key, and the text that opens the door; that text is not kept. BadInput, UnknownName."""
        if scope not in SCOPES:
            raise UnknownName("scope", scope, SCOPES)
        if not name.strip() or len(name) > LONGEST_NAME or "\x00" in name:
            raise BadInput(
                f"expected a name of 1 to {LONGEST_NAME} characters for the key, found {name!r:.40}"
            )
        key_id, secret = self._secret(4), self._secret(32)
        key = Key.of({"key_id": key_id, "name": name, "scope": scope, "made_at": now})
        text = f"{PREFIX}_{key_id}_{secret}"
        row = key.model_dump(mode="json") | {"digest": digest(text)}
        with self._database.write() as connection:
            connection.execute(sa.insert(KEYS), row)
        return key, text

    def all(self) -> list[Key]:
        """Every key, revoked ones too, oldest first."""
        columns = [column for column in KEYS.c if column.name != "digest"]
        with self._database.read() as connection:
            rows = (
                connection.execute(sa.select(*columns).order_by(KEYS.c.made_at, KEYS.c.key_id))
                .mappings()
                .all()
            )
        return [Key(**row) for row in rows]

    def revoke(self, key_id: str, now: str) -> Key:
        """Make a key useless for good. UnknownName for a key that is not there."""
        if key_id not in (known := {key.key_id for key in self.all()}):
            raise UnknownName("key", key_id, known)
        with self._database.write() as connection:
            fresh = sa.update(KEYS).where(KEYS.c.key_id == key_id, KEYS.c.revoked_at.is_(None))
            connection.execute(fresh.values(revoked_at=now))
        return next(key for key in self.all() if key.key_id == key_id)

    def find(self, text: str) -> Key | None:
        """The key of this text, revoked or not; None where there is none."""
        parts = text.split("_")
        if len(parts) != 3 or parts[0] != PREFIX or "\x00" in parts[1]:
            return None
        with self._database.read() as connection:
            row = connection.execute(sa.select(KEYS).where(KEYS.c.key_id == parts[1])).mappings().first()
        if row is None or not hmac.compare_digest(row["digest"], digest(text)):
            return None
        return Key(**{name: value for name, value in row.items() if name != "digest"})


def digest(text: str) -> str:
    """What is kept of a key."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
