"""Who speaks: signatures, expiry, replay, certificates, and whatever else arrives at a node."""

import base64
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="needs the extra swarm")

from metainf.domain import BadInput
from metainf.swarm.trust import signing
from metainf.swarm.trust.certificates import Certified, certify, owner_of, pem_of
from metainf.swarm.trust.identity import Identity, kept, node_of, signed_by
from metainf.swarm.trust.signing import MOST_BYTES, PURPOSE, Envelope, Refused, Replayed, Seen, seal, unseal
from metainf.swarm.words import Announcement, Features, Ping, Profile, Span

NOW = 1_800_000_000.0
ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


@pytest.fixture(scope="module")
def certified() -> Certified:
    return certify(ALICE, NOW)


def word(certified: Certified, **more: object) -> Announcement:
    base = Announcement(
        node=ALICE.node, generation=1, seq=1, address="localhost:1", certificate=certified.digest,
        model="b2:" + "0" * 32, num_blocks=30, span=Span(start=0, end=10), profile=Profile(dtype="float32"),
        features=Features(decode_ms_per_block=1.5), pings=(Ping(node=BOB.node, rtt_ms=3.25),),
        issued_s=NOW, valid_until_s=NOW + 15,
    )  # fmt: skip
    return base.model_copy(update=more)


def forged(payload: str, by: Identity, certified: Certified) -> bytes:
    return (
        Envelope(
            public=by.public.hex(),
            signature=by.sign(PURPOSE + payload.encode()).hex(),
            certificate=base64.b64encode(certified.der).decode(),
            payload=payload,
        )
        .canonical()
        .encode()
    )


def test_what_is_sealed_is_heard(certified: Certified) -> None:
    said = word(certified)
    heard = unseal(seal(ALICE, said, certified.der), NOW + 1, Seen())
    assert heard.word == said
    assert owner_of(heard.certificate) == said.node
    assert pem_of(heard.certificate) == certified.pem


def test_one_seals_only_for_oneself(certified: Certified) -> None:
    with pytest.raises(BadInput, match="expected an announcement of"):
        seal(BOB, word(certified), certified.der)
    with pytest.raises(BadInput, match="another certificate"):
        seal(ALICE, word(certified), b"other")


def test_another_key_cannot_speak_in_a_nodes_name(certified: Certified) -> None:
    with pytest.raises(Refused, match="in the name of"):
        unseal(forged(word(certified).canonical(), BOB, certified), NOW)


def test_a_swapped_certificate_is_refused(certified: Certified) -> None:
    with pytest.raises(Refused, match="not the one that was announced"):
        unseal(forged(word(certified).canonical(), ALICE, certify(ALICE, NOW)), NOW)


def test_only_the_canonical_form_is_believed(certified: Certified) -> None:
    spread = json.dumps(json.loads(word(certified).canonical()), indent=1)
    with pytest.raises(Refused, match="canonical"):
        unseal(forged(spread, ALICE, certified), NOW)


def test_a_signature_for_something_else_is_worth_nothing(certified: Certified) -> None:
    payload = word(certified).canonical()
    other = Envelope(
        public=ALICE.public.hex(), signature=ALICE.sign(payload.encode()).hex(),
        certificate=base64.b64encode(certified.der).decode(), payload=payload,
    )  # fmt: skip
    with pytest.raises(Refused, match="signature"):
        unseal(other.canonical().encode(), NOW)


@pytest.mark.parametrize(
    ("now", "refused"),
    [(NOW - 9, None), (NOW - 11, "future"), (NOW + 24, None), (NOW + 26, "expired")],
)
def test_clocks_may_differ_by_ten_seconds(certified: Certified, now: float, refused: str | None) -> None:
    message = seal(ALICE, word(certified), certified.der)
    if refused is None:
        assert unseal(message, now).word.node == ALICE.node
    else:
        with pytest.raises(Refused, match=refused):
            unseal(message, now)


def test_nothing_is_valid_for_long(certified: Certified) -> None:
    with pytest.raises(Refused, match="at most 600 s"):
        unseal(seal(ALICE, word(certified, valid_until_s=NOW + 601), certified.der), NOW)


def test_replays_are_refused_and_restarts_are_not(certified: Certified) -> None:
    seen = Seen()
    first, second = (seal(ALICE, word(certified, seq=seq), certified.der) for seq in (1, 2))
    unseal(second, NOW, seen)
    for old in (first, second):
        with pytest.raises(Replayed):
            unseal(old, NOW, seen)
    unseal(seal(ALICE, word(certified, generation=2, seq=0), certified.der), NOW, seen)
    with pytest.raises(Replayed):
        unseal(seal(ALICE, word(certified, seq=9), certified.der), NOW, seen)


def test_forgetting_reopens_no_door(certified: Certified) -> None:
    """By the time a node is forgotten everything it had said has expired."""
    seen = Seen()
    longest = seal(ALICE, word(certified, seq=1, valid_until_s=NOW + 600), certified.der)
    unseal(seal(ALICE, word(certified, seq=2), certified.der), NOW, seen)
    seen.forget(NOW + 609)
    with pytest.raises(Replayed):
        unseal(longest, NOW + 609, seen)
    seen.forget(NOW + 611)
    assert not seen.newest
    with pytest.raises(Refused, match="expired"):
        unseal(longest, NOW + 611, seen)


def test_a_crowd_of_new_names_fills_no_memory(certified: Certified, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "MOST_SEEN", 3)
    seen = Seen()
    for index in range(3):
        seen.admit(word(certified, node=f"ed-{index}"), NOW)
    with pytest.raises(Refused, match="no new one"):
        seen.admit(word(certified, node="ed-3"), NOW)
    seen.admit(word(certified, node="ed-1", seq=2), NOW)
    seen.admit(word(certified, node="ed-3"), NOW + 700)
    assert len(seen.newest) == 1


def test_ten_thousand_broken_messages_crash_nothing(certified: Certified) -> None:
    """Bits turned, bytes cut, doubled and put in: each is refused, or is the very same announcement."""
    rng = np.random.default_rng(5)
    message = seal(ALICE, word(certified), certified.der)
    believed = 0
    for _ in range(10_000):
        broken = bytearray(message)
        for _ in range(int(rng.integers(1, 4))):
            at, kind = int(rng.integers(0, len(broken))), int(rng.integers(0, 4))
            if kind == 0:
                broken[at] ^= 1 << int(rng.integers(0, 8))
            elif kind == 1:
                del broken[at : at + int(rng.integers(1, 60))]
            elif kind == 2:
                broken[at:at] = rng.bytes(int(rng.integers(1, 30)))
            else:
                broken[at:at] = broken[at : at + 40]
        try:
            heard = unseal(bytes(broken), NOW)
        except Refused:
            continue
        believed += 1
        assert heard.word == word(certified)
    assert believed < 100


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
@settings(max_examples=300)
def test_foreign_bytes_are_refused(message: bytes) -> None:
    with pytest.raises(Refused):
        unseal(message, NOW)
    with pytest.raises(Refused):
        owner_of(message)


@pytest.mark.parametrize(
    "message",
    [b"", b"null", b"[" * 20_000, b'{"payload":' * 2000, b"x" * (MOST_BYTES + 1), b"\xff\xfe" * 100],
    ids=["nothing", "null", "deep list", "deep object", "oversized", "no text"],
)
def test_known_tricks_are_refused(message: bytes) -> None:
    with pytest.raises(Refused):
        unseal(message, NOW)


@pytest.mark.parametrize(
    "change",
    [{"num_blocks": 0}, {"num_blocks": 10**9}, {"span": {"start": 5, "end": 5}},
     {"span": {"start": 0, "end": 31}},
     {"issued_s": float("nan")}, {"seq": -1}, {"node": "../etc"}, {"extra": 1}, {"version": 2}],
    ids=str,
)  # fmt: skip
def test_well_signed_nonsense_is_refused(certified: Certified, change: dict[str, object]) -> None:
    values = {**json.loads(word(certified).canonical()), **change}
    payload = json.dumps(values, sort_keys=True, separators=(",", ":"))
    with pytest.raises(Refused):
        unseal(forged(payload, ALICE, certified), NOW)


def test_a_certificate_without_its_identity_is_refused(certified: Certified) -> None:
    broken = bytearray(certified.der)
    at = certified.der.index(ALICE.public) + 40
    broken[at] ^= 1
    with pytest.raises(Refused, match="vouches"):
        owner_of(bytes(broken))
    taken = certified.der.replace(ALICE.public, BOB.public)
    with pytest.raises(Refused, match="vouches"):
        owner_of(taken)
    with pytest.raises(Refused, match="at most"):
        owner_of(b"x" * 5000)


def test_a_certificate_bears_the_name_of_its_identity(certified: Certified) -> None:
    renamed = certified.der.replace(ALICE.node.encode(), BOB.node.encode())
    with pytest.raises(Refused, match="another name"):
        owner_of(renamed)


def test_an_identity_is_kept_in_a_file_of_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "identity"
    first = kept(path)
    assert kept(path) == first and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.seed.hex() not in repr(first) and first.node in repr(first)
    path.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        kept(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(BadInput, match="found 5"):
        kept(path)


def test_a_name_follows_from_the_key() -> None:
    assert ALICE.node == node_of(ALICE.public) != BOB.node
    assert signed_by(ALICE.public, ALICE.sign(b"x"), b"x")
    assert not signed_by(BOB.public, ALICE.sign(b"x"), b"x")
    assert not signed_by(b"", b"", b"x")
