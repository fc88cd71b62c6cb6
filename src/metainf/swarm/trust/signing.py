"""Announcements under seal: who says it, that nobody changed it, that it is fresh and new.

An envelope is JSON of the canonical announcement, the speaker's public key, the signature and the
certificate that the announcement names by its digest. Deciding is pure: the instant is passed in, what was
seen is kept by the caller in `Seen`.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.swarm.plan.table import SKEW_S
from metainf.swarm.trust.identity import Identity, node_of, signed_by
from metainf.swarm.words import Announcement

PURPOSE = b"metainf swarm announcement 1\x00"
"""Signed with every announcement, so that a signature made for something else is worth nothing here."""
MOST_BYTES = 32 * 1024
MOST_LIFETIME_S = 600.0
MOST_SEEN = 100_000


class Refused(BadInput):
    """A message that is not believed; says why."""


class Replayed(Refused):
    """A message that was heard before, or one older than what was heard."""


class Envelope(Frozen):
    """What travels."""

    version: Literal[1] = 1
    public: Annotated[str, Field(max_length=64)]
    signature: Annotated[str, Field(max_length=128)]
    certificate: Annotated[str, Field(max_length=8192)]
    payload: Annotated[str, Field(max_length=MOST_BYTES)]


@dataclass(frozen=True)
class Heard:
    """An announcement that is believed, and the DER of its certificate."""

    word: Announcement
    certificate: bytes


@dataclass
class Seen:
    """The newest (generation, seq) of every node, kept for as long as an older word could still be valid."""

    newest: dict[str, tuple[int, int, float]] = field(default_factory=dict)

    def admit(self, word: Announcement, now_s: float) -> None:
        """Raises Replayed for what is not newer than what was heard, Refused where nobody new fits."""
        known = self.newest.get(word.node)
        if known is not None and (word.generation, word.seq) <= known[:2]:
            raise Replayed(
                f"expected a word of {word.node} after {known[:2]}, found {word.generation, word.seq}"
            )
        if known is None and len(self.newest) >= MOST_SEEN:
            self.forget(now_s)
            if len(self.newest) >= MOST_SEEN:
                raise Refused(f"{MOST_SEEN:,} nodes are known already: no new one is admitted")
        forget_s = max(word.issued_s, now_s) + MOST_LIFETIME_S + SKEW_S
        self.newest[word.node] = (word.generation, word.seq, forget_s)

    def forget(self, now_s: float) -> None:
        """Drop nodes of which nothing heard so far can be valid any more."""
        self.newest = {node: kept for node, kept in self.newest.items() if kept[2] > now_s}


def digest_of(certificate: bytes) -> str:
    """The digest by which an announcement names a certificate (DER)."""
    return f"sha256:{hashlib.sha256(certificate).hexdigest()}"


def seal(identity: Identity, word: Announcement, certificate: bytes) -> bytes:
    """The envelope of one's own announcement. Raises BadInput for that of another node or certificate."""
    if word.node != identity.node:
        raise BadInput(f"expected an announcement of {identity.node}, found one of {word.node}")
    if word.certificate != digest_of(certificate):
        raise BadInput("the announcement names another certificate")
    payload = word.canonical()
    envelope = Envelope(
        public=identity.public.hex(),
        signature=identity.sign(PURPOSE + payload.encode()).hex(),
        certificate=base64.b64encode(certificate).decode(),
        payload=payload,
    )
    return envelope.canonical().encode()


def unseal(message: bytes, now_s: float, seen: Seen | None = None, skew_s: float = SKEW_S) -> Heard:
    """The announcement in an envelope, if it is to be believed at this instant (seconds since the epoch).

    Clocks may differ by `skew_s`. Raises Refused for anything else: too large, malformed, not canonical,
    wrongly signed, under another's name, not yet or no longer valid, valid for too long; Replayed where
    `seen` knows it.
    """
    if len(message) > MOST_BYTES:
        raise Refused(f"expected at most {MOST_BYTES:,} bytes, found {len(message):,}")
    try:
        envelope = Envelope.parse(message)
        public, signature = bytes.fromhex(envelope.public), bytes.fromhex(envelope.signature)
        certificate = base64.b64decode(envelope.certificate, validate=True)
        payload = envelope.payload.encode()
    except (BadInput, ValueError, binascii.Error, RecursionError) as error:
        raise Refused(f"not an announcement: {str(error)[:300]}") from None
    if not signed_by(public, signature, PURPOSE + payload):
        raise Refused("the signature is not of this key and message")
    word = _word(payload)
    if word.node != node_of(public):
        raise Refused(f"the key of {node_of(public)} speaks in the name of {word.node}")
    if digest_of(certificate) != word.certificate:
        raise Refused("the certificate is not the one that was announced")
    _fresh(word, now_s, skew_s)
    if seen is not None:
        seen.admit(word, now_s)
    return Heard(word, certificate)


def _word(payload: bytes) -> Announcement:
    try:
        word = Announcement.parse(payload)
    except (BadInput, RecursionError) as error:
        raise Refused(str(error)[:300]) from None
    if word.canonical().encode() != payload:
        raise Refused("the announcement is not in its canonical form")
    return word


def _fresh(word: Announcement, now_s: float, skew_s: float) -> None:
    if word.issued_s > now_s + skew_s:
        raise Refused(f"issued {word.issued_s - now_s:.0f} s in the future: set the clocks")
    if word.valid_until_s + skew_s <= now_s:
        raise Refused(f"expired {now_s - word.valid_until_s:.0f} s ago")
    if word.valid_until_s - word.issued_s > MOST_LIFETIME_S:
        raise Refused(f"expected a validity of at most {MOST_LIFETIME_S:.0f} s")
