"""Any word under seal: signed by an identity for one purpose, in its one canonical form.

Announcements have a seal of their own (`signing`), which carries a certificate too.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.swarm.trust.identity import Identity, node_of, signed_by
from metainf.swarm.trust.signing import Refused

MOST_BYTES = 64 * 1024
Word = TypeVar("Word", bound=Frozen)


class Seal(Frozen):
    """What travels: the canonical word, the signer's public key (hex) and signature (hex)."""

    version: Literal[1] = 1
    public: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    payload: Annotated[str, Field(max_length=MOST_BYTES)]


@dataclass(frozen=True)
class Opened(Generic[Word]):
    """A word whose seal is whole, and the node id of who signed it."""

    word: Word
    signer: str


def sealed(identity: Identity, word: Frozen) -> str:
    """The word under the identity's seal, as canonical JSON. The purpose is the word's type."""
    payload = word.canonical()
    signature = identity.sign(_purpose(type(word)) + payload.encode())
    return Seal(public=identity.public.hex(), signature=signature.hex(), payload=payload).canonical()


def opened(kind: type[Word], text: str) -> Opened[Word]:
    """Check a seal and read the word. Raises Refused where it is too large, malformed, not canonical, signed
    for another purpose or by another key."""
    if len(text) > MOST_BYTES:
        raise Refused(f"expected at most {MOST_BYTES:,} characters, found {len(text):,}")
    try:
        seal = Seal.parse(text)
        public = bytes.fromhex(seal.public)
        if seal.canonical() != text:
            raise Refused("the seal is not in its canonical form")
        if not signed_by(public, bytes.fromhex(seal.signature), _purpose(kind) + seal.payload.encode()):
            raise Refused(f"the signature is not of this key for a {kind.__name__.lower()}")
        word = kind.parse(seal.payload)
    except (BadInput, ValueError, RecursionError) as error:
        raise error if isinstance(error, Refused) else Refused(str(error)[:300]) from None
    if word.canonical() != seal.payload:
        raise Refused(f"the {kind.__name__.lower()} is not in its canonical form")
    return Opened(word, node_of(public))


def digest(text: str | bytes) -> str:
    """SHA-256 by which sealed words name one another."""
    data = text.encode() if isinstance(text, str) else text
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _purpose(kind: type[Frozen]) -> bytes:
    """Signed with every word, so that a signature made for one kind is worth nothing for another."""
    return f"metainf {kind.__name__.lower()} 1\0".encode()
