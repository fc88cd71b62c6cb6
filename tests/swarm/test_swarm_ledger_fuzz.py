"""Hostile evidence and entries: whatever is changed in them is refused, and nothing but a refusal leaves."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="needs the extra swarm")

from fuzzing_bytes import mutants
from orders import ARBITER, OPERATOR, PAYER, WHOLE, Clock, deposit, order, receipts, settlement

from metainf.domain import BadInput, MetaInfError
from metainf.swarm.host.paying import settled as owed
from metainf.swarm.ledger.book import Book
from metainf.swarm.ledger.evidence import Claim, Evidence, answer_digest, check
from metainf.swarm.ledger.words import Deposit, Order, Receipt, Settlement, Withdrawal
from metainf.swarm.ledger.work import chain, settled
from metainf.swarm.trust.sealed import opened, sealed
from metainf.swarm.trust.signing import Refused

ANSWER = [5, 9, 1]
VALUES: tuple[Any, ...] = (
    None,
    "",
    "x",
    -1,
    0,
    2**70,
    1.5,
    True,
    [],
    {},
    [[]],
    "[" * 2000,
    "\x00",
    "é" * 200,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([way] if way else []) + [each for key, one in inner for each in places(one, (*way, key))]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("ledger")
    book = Book(folder / "ledger.sqlite", OPERATOR.node, Clock())
    book.add("deposit", deposit())
    placed = order()
    book.add("order", placed)
    done = receipts(placed, WHOLE)
    told = sealed(ARBITER, settled(chain(placed, done), answer_digest(ANSWER), 20))
    entry = book.add("settlement", told, done)
    made = Evidence(
        order=placed, receipts=tuple(done), settlement=told, entry=entry, place=book.place(entry.seq),
        head=book.head(OPERATOR), tokens=tuple(ANSWER),
    )  # fmt: skip
    return made.canonical()


@given(data=st.data())
def test_changed_evidence_is_refused(text: str, data: st.DataObject) -> None:
    """A field of another value, or one letter of a seal that is another letter."""
    whole = json.loads(text)
    way = data.draw(st.sampled_from(places(whole)))
    at = whole
    for key in way[:-1]:
        at = at[key]
    before = at[way[-1]]
    if isinstance(before, str) and before and data.draw(st.booleans()):
        letter = data.draw(st.integers(0, len(before) - 1))
        new = data.draw(st.sampled_from('0aZ{"\\'))
        at[way[-1]] = before[:letter] + new + before[letter + 1 :]
    else:
        at[way[-1]] = data.draw(st.sampled_from(VALUES))
    try:
        found = check(Evidence.parse(json.dumps(whole)), ANSWER)
    except MetaInfError:
        return
    good = check(Evidence.parse(text), ANSWER)
    less: tuple[dict[str, Any], ...] = ({}, {"recorded_by": None}, {"output": None})
    assert found in [good.model_copy(update=each) for each in less], "only what changes nothing is believed"


@given(st.one_of(st.binary(max_size=500), st.text(max_size=500)))
def test_any_bytes_are_no_evidence(told: bytes | str) -> None:
    with pytest.raises(BadInput):
        Evidence.parse(told)


@given(
    kind=st.sampled_from(["deposit", "order", "settlement", "refund", "withdrawal"]),
    told=st.text(max_size=300),
)
def test_any_text_is_no_entry(tmp_path_factory: pytest.TempPathFactory, kind: Any, told: str) -> None:
    book = Book(tmp_path_factory.getbasetemp() / "fuzzed.sqlite", OPERATOR.node, Clock())
    before = book.accounts.count, book.accounts.head
    with pytest.raises(MetaInfError):
        book.add(kind, told)
    assert (book.accounts.count, book.accounts.head) == before


def test_a_broken_claim_is_not_settled() -> None:
    """What its judge signs is a claim whose seals hold, or nothing; an honest one is settled afterwards."""
    placed = order()
    done = receipts(placed, WHOLE)
    good = Claim(order=placed, receipts=tuple(done), answer=answer_digest(ANSWER))
    believed = 0
    for message in mutants([good.canonical().encode()], 400, seed=31):
        try:
            claim = Claim.parse(message)
            found = owed(ARBITER, claim)
        except BadInput:
            continue
        believed += 1
        assert (claim.order, claim.receipts) == (good.order, good.receipts)
        assert check(found).paid_nanousd == check(owed(ARBITER, good)).paid_nanousd
    assert believed < 40, "changes of nothing but the answer's digest, which its payer compares, are few"
    assert check(owed(ARBITER, good), ANSWER).answer


@pytest.mark.parametrize("kind", [Order, Receipt, Settlement, Deposit, Withdrawal])
def test_a_broken_sealed_word_is_refused(kind: type[Any]) -> None:
    """Of every kind: what is believed is what was signed."""
    placed = order()
    word = Withdrawal(account=PAYER.node, nonce=1, nanousd=5)
    told = {
        Order: placed, Receipt: receipts(placed, WHOLE)[0], Deposit: deposit(),
        Withdrawal: sealed(PAYER, word),
        Settlement: settlement(placed, receipts(placed, WHOLE)),
    }[kind]  # fmt: skip
    good = opened(kind, told)
    for message in mutants([told.encode()], 200, seed=32):
        with contextlib.suppress(Refused):
            assert opened(kind, message.decode("utf-8", "replace")) == good


def test_a_broken_link_to_a_wallet_is_refused() -> None:
    """Changed on its way, or sealed by a node that never had the wallet's signature."""
    pytest.importorskip("eth_account")
    from metainf.swarm.ledger.chain import Link, link, linked

    text = link(PAYER, f"0x{0xA11CE:064x}")
    good, refused = linked(text), 0
    for message in mutants([text.encode()], 400, seed=33):
        with contextlib.suppress(Refused):
            assert linked(message.decode("utf-8", "replace")) == good
    for number, message in enumerate(mutants([bytes.fromhex(good.signature[2:])], 80, seed=34)):
        signature = f"0x{message[:65].ljust(65, bytes([number])).hex()}"
        try:
            assert (
                linked(sealed(PAYER, good.model_copy(update={"signature": signature}))).wallet == good.wallet
            )
        except Refused:
            refused += 1
    assert refused > 60
    with pytest.raises(Refused):
        linked(sealed(ARBITER, Link(node=ARBITER.node, wallet=good.wallet, signature=good.signature)))
    assert linked(text) == good
