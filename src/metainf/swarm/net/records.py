"""What a directory holds, and which of it is to be believed.

A directory is not trusted: what it holds is signed, and whoever reads checks it. A record vanishes when its
time is up, so that a node that died leaves no ghost. Deciding is pure: the instant is passed in.
"""

import re
import struct
from collections.abc import Mapping
from typing import Protocol

from metainf.domain import BadInput, MetaInfError
from metainf.swarm.trust.certificates import owner_of, pem_of
from metainf.swarm.trust.identity import PUBLIC_BYTES, SIGNATURE_BYTES, Identity, node_of, signed_by
from metainf.swarm.trust.signing import MOST_BYTES, Heard, Refused, unseal

LIFETIME_S, REFRESH_S = 15.0, 3.0
NODES, GUESTS = "node.", "guest."
MOST_RECORDS = 10_000
MOST_RECORD_BYTES = MOST_BYTES
KEY = re.compile(r"[a-z]{1,16}\.[a-z0-9][a-z0-9-]{0,63}")
GONE = b"metainf swarm gone 1\x00"
"""Begins a farewell, and is signed with it."""
FAREWELL_BYTES = len(GONE) + PUBLIC_BYTES + SIGNATURE_BYTES + 8


class DirectoryLost(MetaInfError):
    """The directory does not answer."""


class Directory(Protocol):
    """Records of bytes by key; each must be put again before its lifetime is over.

    Keys are a kind, a dot and a node's name (`KEY`); a record has 1 to `MOST_RECORD_BYTES` bytes, else `put`
    raises BadInput. What one member puts or removes, the others see a moment later. A record that is not put
    again is gone a lifetime later, however its owner ended. `put` and `remove` raise DirectoryLost where the
    directory does not answer; `records` gives what is known until that is older than a lifetime, and raises
    DirectoryLost then.
    """

    async def put(self, key: str, record: bytes) -> None: ...

    async def remove(self, key: str) -> None: ...

    async def records(self) -> Mapping[str, bytes]: ...

    async def close(self) -> None: ...


def checked(key: str, record: bytes | None = None) -> None:
    """Raises BadInput for a key or a record that no directory takes."""
    if not KEY.fullmatch(key):
        raise BadInput(f"expected a key such as {NODES}ed-0123, found {key[:80]!r}")
    if record is not None and not 0 < len(record) <= MOST_RECORD_BYTES:
        raise BadInput(f"expected a record of 1 to {MOST_RECORD_BYTES:,} bytes, found {len(record):,}")


def nodes(records: Mapping[str, bytes], now_s: float) -> list[Heard]:
    """The announcements among the records that are to be believed; each under its own node's key, and with a
    certificate that this node vouches for."""
    found = []
    for key, record in records.items():
        if key.startswith(NODES):
            try:
                heard = unseal(record, now_s)
                if key == f"{NODES}{heard.word.node}" and owner_of(heard.certificate) == heard.word.node:
                    found.append(heard)
            except Refused:
                continue
    return found


def trusted(records: Mapping[str, bytes], now_s: float) -> bytes:
    """PEM certificates of the nodes and guests among the records that are to be believed."""
    pems = [pem_of(heard.certificate) for heard in nodes(records, now_s)]
    for key, record in records.items():
        if key.startswith(GUESTS):
            try:
                if key == f"{GUESTS}{owner_of(record)}":
                    pems.append(pem_of(record))
            except Refused:
                continue
    return b"".join(pems)


def good_until(key: str, record: bytes, now_s: float, lifetime_s: float = LIFETIME_S) -> float:
    """Until when a record may be kept that is put under a key now; an instant in the past for one that may
    not be kept at all.

    An announcement and a farewell name that instant under their owner's signature, so that whoever has a copy
    can neither keep a node listed for longer nor block its next word. A guest's certificate names none: it
    is good for a lifetime from whenever somebody puts it. Other kinds of records are not kept.
    """
    latest_s = now_s + lifetime_s
    try:
        if record.startswith(GONE):
            return min(latest_s, _gone_until(key, record))
        if key.startswith(NODES):
            word = unseal(record, now_s).word
            return min(latest_s, word.valid_until_s) if key == f"{NODES}{word.node}" else 0.0
        if key.startswith(GUESTS):
            return latest_s if key == f"{GUESTS}{owner_of(record)}" else 0.0
    except Refused:
        return 0.0
    return 0.0


def farewell(identity: Identity, key: str, until_s: float) -> bytes:
    """A word that takes the place of one's own record where nothing can be deleted, good until `until_s`."""
    until = struct.pack(">d", until_s)
    return GONE + identity.public + identity.sign(GONE + key.encode() + until) + until


def _gone_until(key: str, record: bytes) -> float:
    """The instant that a farewell names. Raises Refused for one that the key's owner did not sign."""
    if len(record) != FAREWELL_BYTES:
        raise Refused(f"expected a farewell of {FAREWELL_BYTES} bytes, found {len(record)}")
    rest = record[len(GONE) :]
    public, signature, until = rest[:PUBLIC_BYTES], rest[PUBLIC_BYTES:-8], rest[-8:]
    if key.partition(".")[2] != node_of(public):
        raise Refused("a farewell in another's name")
    if not signed_by(public, signature, GONE + key.encode() + until):
        raise Refused("the farewell is not signed by its key")
    until_s = float(struct.unpack(">d", until)[0])
    return until_s if until_s == until_s else 0.0  # no NaN
