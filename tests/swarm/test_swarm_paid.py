"""Texts that are paid for, through real nodes: order, text, receipts, settlement in the ledger, evidence."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography"):
    pytest.importorskip(name, reason="needs the extra swarm")

from orders import ARBITER, OPERATOR, PAYER, Clock, deposit, order  # noqa: E402
from small_swarm import LAYERS, Place, small_model, swarm_of  # noqa: E402

from metainf.api.ledger import verify  # noqa: E402
from metainf.domain import BadInput  # noqa: E402
from metainf.swarm.host import believing, generating  # noqa: E402
from metainf.swarm.host.generating import Course, Swarm  # noqa: E402
from metainf.swarm.host.paying import Purse, settled, written  # noqa: E402
from metainf.swarm.ledger.book import Book  # noqa: E402
from metainf.swarm.ledger.evidence import Evidence, check  # noqa: E402
from metainf.swarm.ledger.words import Order, Receipt  # noqa: E402
from metainf.swarm.net.hiring import NOT_PAID, ORDER_USED, NotPaid  # noqa: E402
from metainf.swarm.net.paid import Tally, Till, Work  # noqa: E402
from metainf.swarm.trust.sealed import digest, opened, sealed  # noqa: E402
from metainf.swarm.trust.signing import Refused, Replayed  # noqa: E402
from metainf.swarm.words import Span  # noqa: E402

HALVES = {"a": (0, 2), "b": (2, 4)}
SPARE = {**HALVES, "c": (2, 4)}
TOKENS, PRICE = 12, 7
Story = Callable[[Place, Swarm, Purse], Awaitable[None]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Book:
    made = Book(tmp_path / "ledger.sqlite", OPERATOR.node, clock)
    made.add("deposit", deposit(10**9))
    return made


@pytest.fixture
def purse(book: Book) -> Purse:
    return Purse(PAYER, PRICE, book, operator=OPERATOR)


def play(folder: Path, purse: Purse, story: Story, spans: dict[str, tuple[int, int]] = HALVES) -> None:
    """A story among nodes that work for money only."""

    async def told() -> None:
        async with swarm_of(folder, spans) as (here, swarm):
            for name, node in here.nodes.items():
                node.till = Till(here.people[name][0], True, PRICE, purse.book and purse.book.holds)
            await story(here, swarm, purse)

    asyncio.run(told())


async def bought(
    swarm: Swarm, purse: Purse | None, at: int = 0, then: Callable[[], Awaitable[None]] | None = None
) -> tuple[str, Course]:
    """A text; `then` happens at its token number `at`."""
    ask = swarm.asked("the rivers", plain=True, max_tokens=TOKENS, ignore_eos=True)
    course, text = Course(purse=purse), ""
    async for piece in swarm.stream(ask, course):
        text += piece.text
        if then is not None and piece.output_tokens == at:
            await then()
    return text, course


def paid_to(here: Place, course: Course) -> dict[str, int]:
    assert course.bill is not None and course.bill.evidence is not None
    found = check(course.bill.evidence)
    return {here.name_of(share.node): share.nanousd for share in found.shares}


def test_a_text_is_ordered_written_signed_for_settled_and_proven(
    folder: Path, purse: Purse, book: Book
) -> None:
    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        _, course = await bought(swarm, purse)
        assert course.bill is not None and course.bill.evidence is not None
        evidence, through = course.bill.evidence, len(b"the rivers") + TOKENS - 1
        found = check(Evidence.parse(evidence.canonical()), course.answer)
        assert (found.tokens, found.answer, found.recorded_by) == (through, True, OPERATOR.node)
        assert check(evidence, [*course.answer[:-1], 0]).answer is False
        assert found.output == evidence.tokens == tuple(course.answer)
        half = 2 * through * PRICE
        assert paid_to(here, course) == {"a": half, "b": half}
        nodes = {name: who.node for name, (who, _) in here.people.items()}
        assert book.accounts.balances[nodes["a"]] == book.accounts.balances[nodes["b"]] == half
        assert book.accounts.balances[PAYER.node] == 10**9 - 2 * half
        assert book.accounts.held == 0
        for change in (
            {"receipts": evidence.receipts[:1]},
            {"receipts": evidence.receipts[::-1]},
            {"order": evidence.order.replace("1", "2", 1)},
            {"settlement": evidence.settlement.replace("0", "1", 1)},
            {"tokens": (*course.answer[:-1], 0)},
        ):
            with pytest.raises(Refused):
                check(evidence.model_copy(update=change))

    play(folder, purse, story)


def test_who_holds_only_the_text_checks_it_with_the_tokenizer(
    folder: Path, purse: Purse, tmp_path: Path
) -> None:
    """The evidence has the answer's tokens; a text that a stop word ended is the beginning of theirs."""
    shown = tmp_path / "evidence.json"

    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        text, course = await bought(swarm, purse)
        assert course.bill is not None and written(course.bill, shown)
        for held, likeness in ((text, "whole"), (text[:4], "beginning"), (text + "x", "another")):
            found = verify(shown, text=held, tokenizer=folder)
            assert (found.text, found.answer, found.output) == (likeness, None, tuple(course.answer))
        assert verify(shown, course.answer, text, folder).answer
        with pytest.raises(BadInput, match="tokenizer"):
            verify(shown, text=text)

    play(folder, purse, story)


def test_who_takes_over_is_paid_for_the_replay_and_the_dead_one_is_not(folder: Path, purse: Purse) -> None:
    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        unharmed, _ = await bought(swarm, purse)

        async def die() -> None:
            dead.append(next(name for name in "bc" if here.nodes[name].blocks.sessions))
            await here.kill(dead[0])

        dead: list[str] = []  # whichever of the two is asked
        text, course = await bought(swarm, purse, 5, die)
        assert text == unharmed and len(course.recoveries) == 1
        through = len(b"the rivers") + TOKENS - 1
        spare = "b" if dead == ["c"] else "c"
        assert paid_to(here, course) == {"a": 2 * through * PRICE, spare: 2 * through * PRICE}

    play(folder, purse, story, SPARE)


def test_a_node_that_signs_for_more_than_it_did_gets_nothing_and_the_others_get_theirs(
    folder: Path, purse: Purse
) -> None:
    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        till = here.nodes["b"].till
        assert till is not None
        honest = till.signed

        def greedy(work: Work, previous: str, span: Span, now_s: float) -> str:
            word = opened(Receipt, honest(work, previous, span, now_s)).word
            return sealed(till.identity, word.model_copy(update={"tokens": word.tokens + 100}))

        till.signed = greedy  # type: ignore[method-assign]
        lost: list[str] = []
        swarm.caller.lost = lost.append  # type: ignore[method-assign]
        _, course = await bought(swarm, purse)
        assert paid_to(here, course) == {"a": 2 * (len(b"the rivers") + TOKENS - 1) * PRICE}
        assert [here.name_of(node) for node in lost] == ["b"]
        assert course.bill is not None and course.bill.evidence is not None
        assert check(course.bill.evidence, course.answer).tokens == 0

    play(folder, purse, story)


def test_without_an_order_or_with_a_poor_or_used_one_nothing_is_written(
    folder: Path, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "PATIENCE_S", 0.1)
    whole = believing.Terms
    monkeypatch.setattr(believing, "Terms", lambda *a, **b: replace(whole(*a, **b), patience_s=0.1))

    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        told: list[str] = []
        lost: list[str] = []
        swarm.caller.lost = lost.append  # type: ignore[method-assign]

        async def refused(purse: Purse | None) -> str:
            course = Course(told.append, purse=purse)
            with pytest.raises(NotPaid) as error:
                await swarm.generate(swarm.asked("the", plain=True, max_tokens=2), course)
            codes.append(error.value.code)
            return "\n".join(told)

        codes: list[str] = []

        assert "expected an order" in await refused(None)
        assert "expected at least 7 nanousd" in await refused(replace(purse, nanousd_per_pass=PRICE - 1))
        assert "does not hold the money" in await refused(replace(purse, book=None))
        _, course = await bought(swarm, purse)
        used = course.bill
        assert used is not None
        monkeypatch.setattr(Purse, "billed", lambda *_: replace(used, session="another session"))
        assert "this nonce of the payer was used" in await refused(purse)
        assert codes == [NOT_PAID, NOT_PAID, NOT_PAID, ORDER_USED]
        assert lost == [], "nodes that refuse an order have not failed"

    play(folder, purse, story)


def test_a_text_that_is_given_up_is_paid_as_far_as_it_came(folder: Path, purse: Purse) -> None:
    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        ask = swarm.asked("the", plain=True, max_tokens=TOKENS, ignore_eos=True)
        course = Course(purse=purse)
        pieces = swarm.stream(ask, course)
        while len(course.answer) < 4:
            await anext(pieces)
        await pieces.aclose()
        assert paid_to(here, course) == {"a": 2 * 6 * PRICE, "b": 2 * 6 * PRICE}

    play(folder, purse, story)


def test_what_breaks_off_in_a_step_is_refunded_after_the_deadline(
    folder: Path, purse: Purse, book: Book, clock: Clock
) -> None:
    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        here.nodes["b"].batcher.slowness = 1000.0
        course = Course(purse=purse)
        ask = swarm.asked("the", plain=True, max_tokens=TOKENS, ignore_eos=True)
        writing = asyncio.create_task(swarm.generate(ask, course))
        while course.bill is None or here.nodes["b"].steps == 0:
            await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        bill = course.bill
        assert bill.evidence is None and book.holds(bill.transaction)
        with pytest.raises(Refused, match="after its deadline"):
            book.add("refund", order=bill.transaction)
        clock.now_s += purse.wait_s + 60  # the order was made a little later than the clock
        book.add("refund", order=bill.transaction)
        assert (book.accounts.balances[PAYER.node], book.accounts.held) == (10**9, 0)

    play(folder, purse, story)


def test_an_arbiter_settles_the_claim_and_nobody_else_can(folder: Path, purse: Purse, book: Book) -> None:
    async def story(here: Place, swarm: Swarm, purse: Purse) -> None:
        _, course = await bought(swarm, replace(purse, arbiter=ARBITER.node))
        bill = course.bill
        assert bill is not None and bill.claim is not None and bill.evidence is None
        assert bill.told()["tokens"] == course.answer and "tokens" not in bill.told()["claim"]
        with pytest.raises(Exception, match="who may settle this order"):
            settled(PAYER, bill.claim, book)
        evidence = settled(ARBITER, bill.claim, book, OPERATOR)
        found = check(evidence, course.answer)
        assert (found.signed_by, found.answer) == (ARBITER.node, True)
        with pytest.raises(Replayed):
            settled(ARBITER, bill.claim, book)

    play(folder, purse, story)


def test_a_text_is_paid_through_the_contract(folder: Path) -> None:
    """On py-evm: nodes look for the money there, the payer settles, the nodes fetch theirs, to the wei."""
    pytest.importorskip("web3", reason="needs the extra evm")
    pytest.importorskip("eth_tester", reason="needs the extra evm")
    from eth_account import Account
    from web3 import EthereumTesterProvider, Web3

    from metainf.swarm.host.chained import ChainBook, ChainTill
    from metainf.swarm.ledger.chain import Escrows, link

    chain, wei, keys = Web3(EthereumTesterProvider()), 1000, {}
    for number, name in enumerate(("payer", "a", "b", "thief"), 1):
        keys[name] = f"0x{number:064x}"
        rich = {"from": chain.eth.accounts[0], "to": Account.from_key(keys[name]).address, "value": 10**18}
        chain.eth.wait_for_transaction_receipt(chain.eth.send_transaction(rich))
    mine = Escrows.deployed(chain, keys["payer"])
    books = {name: ChainBook(Escrows(chain, mine.contract.address, key), wei) for name, key in keys.items()}

    async def story() -> None:
        async with swarm_of(folder, HALVES) as (here, swarm):
            links = [link(PAYER, keys["payer"])]
            for name, node in here.nodes.items():
                links.append(link(here.people[name][0], keys[name]))
                node.till = ChainTill(books[name], Till(here.people[name][0], True, PRICE))
            for book in books.values():
                assert PAYER.node in [book.meet(each) for each in links]
            purse = Purse(PAYER, PRICE, books["payer"])
            _, course = await bought(swarm, purse)
            bill = course.bill
            assert bill is not None and bill.evidence is not None and not bill.problem
            found = check(bill.evidence, course.answer)
            half = 2 * (len(b"the rivers") + TOKENS - 1) * PRICE
            assert (found.answer, [share.nanousd for share in found.shares]) == (True, [half, half])
            for name in "ab":
                escrows = books[name].escrows
                assert escrows.owed(escrows.account.address) == half * wei
                escrows.withdraw()
                assert escrows.owed(escrows.account.address) == 0
                assert not books[name].holds(bill.transaction), "it is settled"
            assert bill.claim is not None
            with pytest.raises(Replayed):
                settled(PAYER, bill.claim, books["payer"])
            price = price_of(bill.order) * wei
            assert mine.owed(mine.account.address) == price - 2 * half * wei
            assert chain.eth.get_balance(mine.contract.address) == price - 2 * half * wei
            with pytest.raises(Refused, match="not the wallet"):
                Purse(PAYER, PRICE, books["thief"]).billed(swarm.model, LAYERS, "a", 5)
            stolen = Purse(PAYER, PRICE).billed(swarm.model, LAYERS, "a", 5)
            with pytest.raises(Refused, match="does not hold the money"):
                here.nodes["a"].till.hired(stolen.order, (swarm.model, LAYERS), ("m", "s"), time.time())  # type: ignore[union-attr]

    asyncio.run(story())


def price_of(text: str) -> int:
    """Nanousd that a sealed order promises."""
    return opened(Order, text).word.price_nanousd


def test_an_order_pays_for_one_session_and_so_many_passes(folder: Path, clock: Clock) -> None:
    purse = Purse(PAYER, PRICE)
    model, till = "b2:" + "0" * 32, Till(ARBITER, True, PRICE)
    bill = purse.billed(model, LAYERS, "the", 5)
    work = till.hired(bill.order, (model, LAYERS), ("me", "s"), clock())
    again = till.hired(bill.order, (model, LAYERS), ("me", "s"), clock())
    assert again.job is work.job
    with pytest.raises(Replayed):
        till.hired(bill.order, (model, LAYERS), ("you", "s"), clock())
    till.charged(work, 2 * LAYERS * 5)
    with pytest.raises(Refused, match="all are used"):
        till.charged(again, 1)
    with pytest.raises(Refused, match="deadline"):
        till.hired(bill.order, (model, LAYERS), ("me", "s"), clock() + 601)
    with pytest.raises(Refused, match="set the clocks"):
        till.hired(bill.order, (model, LAYERS), ("me", "s"), clock() - 100)
    with pytest.raises(Refused, match="an order for"):
        till.hired(bill.order, (model, LAYERS + 1), ("me", "s"), clock())
    with pytest.raises(Refused):
        till.signed(work, "no digest", Span(start=0, end=1), clock())


def test_a_known_order_is_looked_up_in_the_ledger_again(clock: Clock) -> None:
    """Who has settled it cannot use the passes that are left of it."""
    model, held = "b2:" + "0" * 32, [True]
    till, bill = (
        Till(ARBITER, True, PRICE, lambda _: held[0]),
        Purse(PAYER, PRICE).billed(model, LAYERS, "a", 5),
    )
    subject, user = (model, LAYERS), ("me", "s")
    assert till.hired(bill.order, subject, user, clock()) is not None
    held[0] = False
    with pytest.raises(Refused, match="does not hold"):
        till.hired(bill.order, subject, user, clock())


def test_two_processes_may_order_for_one_payer(tmp_path: Path) -> None:
    one, two = (Book(tmp_path / "ledger.sqlite", OPERATOR.node, time.time) for _ in range(2))
    one.add("deposit", deposit(10**9))
    now = time.time()
    ahead = int((now + 60) * 1e6)
    two.add("order", order(nonce=ahead, issued_s=now, deadline_s=now + 60))
    bill = Purse(PAYER, PRICE, one).billed("b2:" + "0" * 32, LAYERS, "a", 5)
    assert one.holds(bill.transaction) and two.holds(bill.transaction)
    assert one.accounts.nonces[PAYER.node] == ahead + 1


def test_a_tally_counts_what_follows_and_begins_anew_elsewhere() -> None:
    one, two = Tally(), Tally()
    for at, tokens, data in ((0, 3, b"abc"), (3, 1, b"d")):
        one.add(at, tokens, data)
    two.add(9, 1, b"x")
    assert (one.tokens, one.outputs) == (4, digest(b"abcd"))
    two.add(0, 4, b"abcd")
    assert (two.first, two.tokens, two.outputs) == (0, 4, one.outputs)
