"""Hostile evidence and entries: whatever is changed in them is refused, and nothing but a refusal leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="needs the extra swarm")

from orders import ARBITER, OPERATOR, WHOLE, Clock, deposit, order, receipts

from metainf.domain import BadInput, MetaInfError
from metainf.swarm.ledger.book import Book
from metainf.swarm.ledger.evidence import Evidence, answer_digest, check
from metainf.swarm.ledger.work import chain, settled
from metainf.swarm.trust.sealed import sealed

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
        head=book.head(OPERATOR),
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
    assert found in (good, good.model_copy(update={"recorded_by": None})), (
        "only what changes nothing is believed"
    )


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
