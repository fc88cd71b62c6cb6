"""The ledger: who may do what; money neither appears nor vanishes; nothing can be changed unseen."""

import multiprocessing
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from orders import (
    ARBITER,
    MODEL,
    NODES,
    NOW,
    OPERATOR,
    PAYER,
    WHOLE,
    Clock,
    deposit,
    order,
    person,
    receipts,
    settlement,
)
from typer.testing import CliRunner

from metainf.cli.app import app
from metainf.domain import BadInput, StoreError
from metainf.swarm.ledger import merkle
from metainf.swarm.ledger.book import Book, Head, included
from metainf.swarm.ledger.evidence import Claim, Evidence, answer_digest, check
from metainf.swarm.ledger.rules import Accounts, Entry, Kind, replayed
from metainf.swarm.ledger.words import Order, Receipt, Share, Withdrawal
from metainf.swarm.ledger.work import chain, passes_done, settled, shares, tokens_done
from metainf.swarm.trust.identity import kept
from metainf.swarm.trust.sealed import digest, opened, sealed
from metainf.swarm.trust.signing import Refused, Replayed
from metainf.swarm.words import Span


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Book:
    made = Book(tmp_path / "ledger.sqlite", OPERATOR.node, clock)
    made.add("deposit", deposit())
    return made


def test_an_order_is_paid_on_receipts_and_the_rest_goes_back(book: Book) -> None:
    placed = order()
    book.add("order", placed)
    assert book.accounts.balances[PAYER.node] == 10**9 - 12_000
    assert book.accounts.held == 12_000
    done = receipts(placed, WHOLE)
    book.add("settlement", settlement(placed, done), done)
    assert book.accounts.balances[NODES[0].node] == book.accounts.balances[NODES[1].node] == 600
    assert book.accounts.balances[PAYER.node] == 10**9 - 1200
    assert book.accounts.held == 0


def test_work_beyond_what_was_held_back_is_shared_in_proportion() -> None:
    placed = order(most_passes=100, nanousd_per_pass=1)
    done = receipts(placed, ((NODES[0], 0, 4, 0, 20), (NODES[1], 4, 6, 0, 20), (NODES[2], 0, 1, 0, 7)))
    found = chain(placed, done)
    paid = {share.node: share.nanousd for share in shares(found.order, found.receipts)}
    assert sum(paid.values()) == 100
    assert paid[NODES[0].node] == 63
    assert paid[NODES[1].node] in (31, 32)


def test_the_same_passes_are_paid_once_to_one_node_and_to_each_of_two() -> None:
    placed = order()
    done = receipts(placed, ((NODES[0], 0, 6, 0, 10), (NODES[0], 2, 6, 5, 10), (NODES[1], 0, 6, 0, 10)))
    passes = passes_done(chain(placed, done).receipts)
    assert passes == {NODES[0].node: 60 + 4 * 5, NODES[1].node: 60}


def test_receipts_must_cover_the_tokens_without_a_gap() -> None:
    placed = order()
    holes = receipts(placed, ((NODES[0], 0, 3, 0, 20), (NODES[1], 3, 6, 0, 8), (NODES[2], 3, 6, 9, 11)))
    found = chain(placed, holes)
    assert tokens_done(found.order, found.receipts) == 8
    with pytest.raises(BadInput, match="expected receipts for 20 tokens through all blocks, found 8"):
        settled(found, digest(b""), 20)


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("deposit", deposit(by=PAYER), "only the operator"),
        ("deposit", deposit(), "known already"),
        ("order", order(by=NODES[0]), "signed an order of"),
        ("order", order(nanousd_per_pass=10**7), "on the account"),
        ("order", order(deadline_s=NOW + 1, issued_s=NOW - 100), None),
        ("order", order(issued_s=NOW + 30), "in the future"),
        ("order", order(issued_s=NOW - 90, deadline_s=NOW - 30), "deadline of the order is over"),
        ("order", deposit(), "not of this key for a order"),
        ("order", "{}", "Seal"),
        ("order", "x" * 70_000, "at most"),
        ("order", None, "expected a sealed order"),
        (
            "withdrawal",
            sealed(NODES[0], Withdrawal(account=PAYER.node, nonce=9, nanousd=1)),
            "asks for money of",
        ),
        (
            "withdrawal",
            sealed(PAYER, Withdrawal(account=PAYER.node, nonce=9, nanousd=2 * 10**9)),
            "on the account",
        ),
    ],
)
def test_entries_that_break_a_rule_change_nothing(
    book: Book, kind: Kind, text: str | None, why: str | None
) -> None:
    before = (book.accounts.count, dict(book.accounts.balances), book.accounts.held)
    if why is None:
        book.add(kind, text)
        return
    with pytest.raises(Refused, match=why):
        book.add(kind, text)
    assert (book.accounts.count, dict(book.accounts.balances), book.accounts.held) == before


def test_an_order_or_a_settlement_counts_once(book: Book) -> None:
    placed = order(nonce=5)
    book.add("order", placed)
    with pytest.raises(Replayed):
        book.add("order", placed)
    with pytest.raises(Replayed, match="nonce"):
        book.add("order", order(nonce=5, request=digest(b"another")))
    done = receipts(placed, WHOLE)
    book.add("settlement", settlement(placed, done), done)
    with pytest.raises(Replayed, match="settled already"):
        book.add("settlement", settlement(placed, done), done)


def test_only_the_arbiter_settles_and_only_what_receipts_justify(book: Book) -> None:
    placed = order()
    book.add("order", placed)
    done = receipts(placed, WHOLE)
    with pytest.raises(Refused, match="only"):
        book.add("settlement", settlement(placed, done, by=PAYER), done)
    with pytest.raises(Refused, match="other receipts"):
        book.add("settlement", settlement(placed, done), done[:1])
    greedy = (Share(node=NODES[0].node, nanousd=12_000),)
    with pytest.raises(Refused, match="justify"):
        book.add("settlement", settlement(placed, done, shares=greedy), done)
    assert book.accounts.held == 12_000


def test_an_order_without_an_arbiter_is_settled_by_its_payer(book: Book) -> None:
    placed = order(arbiter=None)
    book.add("order", placed)
    done = receipts(placed, WHOLE)
    book.add("settlement", settlement(placed, done, by=PAYER), done)
    assert book.accounts.held == 0


def test_money_goes_back_after_the_deadline_and_not_before(book: Book, clock: Clock) -> None:
    placed = order()
    book.add("order", placed)
    with pytest.raises(Refused, match="after its deadline"):
        book.add("refund", order=digest(placed))
    clock.now_s += 61
    done = receipts(placed, WHOLE)
    with pytest.raises(Refused, match="only be refunded"):
        book.add("settlement", settlement(placed, done), done)
    book.add("refund", order=digest(placed))
    assert book.accounts.balances[PAYER.node] == 10**9
    with pytest.raises(Replayed):
        book.add("refund", order=digest(placed))


def test_receipts_of_others_or_out_of_order_are_refused() -> None:
    placed, other = order(), order(nonce=2)
    done = receipts(placed, WHOLE)
    with pytest.raises(Refused, match="does not follow"):
        chain(placed, done[::-1])
    with pytest.raises(Refused, match="another order"):
        chain(other, done)
    word = opened(Receipt, done[0]).word
    with pytest.raises(Refused, match="signed in the name of"):
        chain(placed, [sealed(NODES[3], word)])
    with pytest.raises(Refused, match="beyond 6 blocks"):
        chain(placed, receipts(placed, ((NODES[0], 0, 7, 0, 1),)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_seal_is_refused(data: st.DataObject) -> None:
    text = order()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters(codec="ascii")) + text[at + 1 :]
    if changed != text:
        with pytest.raises(Refused):
            opened(Order, changed)


Step = tuple[str, int, int]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["deposit", "order", "settle", "refund", "withdraw", "wait"]),
                  st.integers(0, 5), st.integers(1, 2000)),
        max_size=25,
    )
)  # fmt: skip
def test_money_neither_appears_nor_vanishes(steps: list[Step]) -> None:
    accounts, now = Accounts(OPERATOR.node), NOW
    orders: list[str] = []
    admitted: list[Entry] = []
    for number, (what, which, amount) in enumerate(steps):
        kind, text, done, named = "deposit", None, [], None
        if what == "wait":
            now += amount / 20
            continue
        if what == "deposit":
            text = deposit(amount * 1000, reference=f"bank {which}")
        elif what == "order":
            kind, text = "order", order(nonce=number, most_passes=amount, issued_s=now, deadline_s=now + 60)
        elif what == "withdraw":
            kind = "withdrawal"
            text = sealed(PAYER, Withdrawal(account=PAYER.node, nonce=number, nanousd=amount))
        elif orders:
            placed = orders[which % len(orders)]
            named = digest(placed)
            kind = "refund" if what == "refund" else "settlement"
            if what == "settle":
                done = receipts(placed, WHOLE[: 1 + which % 2])
                text = settlement(placed, done, tokens=0)
        entry = Entry(
            seq=accounts.count,
            previous=accounts.head,
            at_s=now,
            kind=kind,
            sealed=text,
            receipts=tuple(done),
            order=named,
        )  # type: ignore[arg-type]
        try:
            accounts.apply(entry)
        except Refused:
            continue
        admitted.append(entry)
        if kind == "order":
            orders.append(text or "")
        assert sum(accounts.balances.values()) + accounts.held + accounts.withdrawn == accounts.deposited
        assert min(accounts.balances.values(), default=0) >= 0
    assert replayed(OPERATOR.node, admitted) == accounts


@given(st.integers(1, 40))
def test_every_leaf_is_proven_and_no_other(count: int) -> None:
    leaves = [f"leaf {number}".encode() for number in range(count)]
    top = merkle.root(leaves)
    for index, leaf in enumerate(leaves):
        beside = merkle.proof(leaves, index)
        assert merkle.proven(leaf, index, count, beside, top)
        assert not merkle.proven(b"another", index, count, beside, top)
        assert not merkle.proven(leaf, (index + 1) % (count + 1), count, beside, top) or (
            count == 1 and index == 0
        )
        assert not merkle.proven(leaf, index, count, [*beside, b"\0" * 32], top)


def test_evidence_is_checked_offline(book: Book) -> None:
    placed = order()
    book.add("order", placed)
    done, answer = receipts(placed, WHOLE), [5, 9, 1]
    told = settled(chain(placed, done), answer_digest(answer), 20)
    entry = book.add("settlement", sealed(ARBITER, told), done)
    evidence = Evidence(
        order=placed,
        receipts=tuple(done),
        settlement=sealed(ARBITER, told),
        entry=entry,
        place=book.place(entry.seq),
        head=book.head(OPERATOR),
    )
    same = Evidence.parse(evidence.canonical())
    found = check(same, answer)
    assert (found.tokens, found.paid_nanousd, found.recorded_by, found.answer) == (
        20,
        1200,
        OPERATOR.node,
        True,
    )
    assert check(same, [5, 9, 2]).answer is False
    assert check(same.model_copy(update={"entry": None, "place": None, "head": None})).recorded_by is None
    with pytest.raises(Refused, match="only"):
        check(same.model_copy(update={"settlement": sealed(NODES[0], told)}))
    with pytest.raises(Refused, match="together"):
        check(same.model_copy(update={"head": None}))
    book.add("order", order(nonce=2))
    with pytest.raises(Refused, match="not in the ledger"):
        check(same.model_copy(update={"head": book.head(OPERATOR)}))
    later = book.place(entry.seq)
    head = book.head(OPERATOR)
    assert check(same.model_copy(update={"head": head, "place": later}), answer).recorded_by == OPERATOR.node
    assert included(entry, later, opened(Head, head).word)


def test_a_payer_orders_and_settles_by_commands(tmp_path: Path) -> None:
    """With its own key; the claim may come from anybody, and the order is settled once."""
    book = Book(tmp_path / "now.sqlite", OPERATOR.node, time.time)
    payer, held, claim = tmp_path / "payer.key", ("--price", "10"), tmp_path / "claim.json"
    account, ledger = kept(payer).node, str(book.path)
    book.add("deposit", deposit(10**6, kept(payer), "bank 2"))
    run = CliRunner().invoke
    words = ["ledger", "order", ledger, "--identity", str(payer), "--model", MODEL, "--blocks", "6"]
    ran = run(app, [*words, "--tokens", "20", *held])
    placed = ran.stdout.strip()
    assert ran.exit_code == 0 and book.holds(digest(placed)), ran.output
    assert book.accounts.escrows[digest(placed)].order.judge == account
    done = receipts(placed, WHOLE)
    made = Claim(order=placed, receipts=tuple(done), answer=answer_digest([5, 9, 1]))
    claim.write_text(made.canonical(), encoding="utf-8")
    settling = ["ledger", "settle", str(claim), "--identity", str(payer), "--ledger", ledger]
    ran = run(app, settling)
    assert check(Evidence.parse(ran.stdout), [5, 9, 1]).answer, ran.output
    assert isinstance(run(app, settling).exception, Replayed)
    assert not book.holds(digest(placed))
    assert book.accounts.balances[account] == 10**6 - 1200
    ran = run(app, [*words, "--tokens", "10000000", *held])
    assert isinstance(ran.exception, Refused) and "on the account" in str(ran.exception)


def test_a_ledger_that_was_changed_does_not_open(tmp_path: Path, book: Book, clock: Clock) -> None:
    book.add("order", order())
    path = book.path
    Book(path, OPERATOR.node, clock)
    with pytest.raises(BadInput, match="belongs to"):
        Book(path, PAYER.node, clock)
    with sqlite3.connect(path) as base:
        base.execute("UPDATE entries SET entry = replace(entry, 'bank 1', 'bank 2') WHERE seq = 0")
    with pytest.raises(Refused):
        Book(path, OPERATOR.node, clock)
    with sqlite3.connect(path) as base:
        base.execute("UPDATE entries SET entry = substr(entry, 1, 50) WHERE seq = 0")
    with pytest.raises(StoreError, match="damaged"):
        Book(path, OPERATOR.node, clock)
    nothing = tmp_path / "photo.sqlite"
    nothing.write_bytes(b"\x89PNG" * 2000)
    with pytest.raises(StoreError, match="expected a ledger"):
        Book(nothing, OPERATOR.node, clock)


def _writes(path: str, number: int) -> int:
    payer = person(f"payer {number}")
    with Book(Path(path), OPERATOR.node, Clock()) as book:
        book.add("deposit", deposit(10**6, payer, f"bank {number}"))
        for nonce in range(10):
            book.add("order", order(nonce, by=payer, payer=payer.node, most_passes=100))
        return book.accounts.count


def test_processes_that_write_at_once_keep_one_chain(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "ledger.sqlite"
    Book(path, OPERATOR.node, clock)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(_writes, [(str(path), number) for number in range(3)])
    found = Book(path, OPERATOR.node, clock).accounts
    assert found.count == 33
    assert found.held == 30 * 1000


def test_a_receipt_counts_blocks_times_tokens() -> None:
    word = opened(Receipt, receipts(order(), ((NODES[0], 2, 5, 0, 7),))[0]).word
    assert (word.passes, word.span) == (21, Span(start=2, end=5))
