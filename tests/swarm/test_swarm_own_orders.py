"""Orders that callers sign themselves at a swarm's door without a queue, whose nodes work for money only."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(name, reason="needs the extra swarm")

from aiohttp.test_utils import TestClient, TestServer  # noqa: E402
from orders import OPERATOR, PAYER, deposit  # noqa: E402
from small_swarm import LAYERS, Place, small_model, swarm_of  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from metainf.cli.app import app as command_line  # noqa: E402
from metainf.hosts.asked import Refusal  # noqa: E402
from metainf.hosts.places import Places  # noqa: E402
from metainf.swarm.broker.words import Job  # noqa: E402
from metainf.swarm.host import believing, generating, ordering  # noqa: E402
from metainf.swarm.host.billing import TRANSACTION, Billing  # noqa: E402
from metainf.swarm.host.generating import Course, Swarm  # noqa: E402
from metainf.swarm.host.limits import OWN  # noqa: E402
from metainf.swarm.host.ordering import TakenOrders, Weights, order_of, signed, taken  # noqa: E402
from metainf.swarm.host.paying import Bill, Purse, written  # noqa: E402
from metainf.swarm.host.serving import COURSE, Serving, SwarmDoor, SwarmWriter, application  # noqa: E402
from metainf.swarm.host.working import answering  # noqa: E402
from metainf.swarm.ledger.book import Book  # noqa: E402
from metainf.swarm.ledger.evidence import Claim, answer_digest, check  # noqa: E402
from metainf.swarm.net.hiring import NOT_PAID, ORDER_USED  # noqa: E402
from metainf.swarm.net.paid import MOST_AHEAD_S, Till  # noqa: E402

HALVES = {"a": (0, 2), "b": (2, 4)}
TWICE = {**HALVES, "c": (0, 2), "d": (2, 4)}
PRICE, TOKENS = 7, 6
USED = "this nonce of the payer was used in another session"
BODY: dict[str, Any] = {
    "model": "small", "prompt": "the rivers", "max_tokens": TOKENS, "ignore_eos": True,
}  # fmt: skip


@dataclass
class Shop:
    """A door before nodes that are paid, the caller's purse, and who asks at the door."""

    here: Place
    swarm: Swarm
    purse: Purse
    book: Book
    client: Any

    async def asked(self, body: dict[str, Any]) -> tuple[int, Any]:
        async with self.client.post("/v1/completions", json=body) as response:
            return response.status, await response.json()

    async def weights(self) -> Weights:
        async with self.client.get("/v1/models") as response:
            (model,) = (await response.json())["data"]
        return Weights.of(model[OWN]["weights"][0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "PATIENCE_S", 0.1)
    whole = believing.Terms
    monkeypatch.setattr(believing, "Terms", lambda *a, **b: replace(whole(*a, **b), patience_s=0.1))


def play(
    folder: Path,
    ledger: Path,
    story: Callable[[Shop], Awaitable[None]],
    pays: Path | None = None,
    spans: dict[str, tuple[int, int]] = HALVES,
) -> None:
    """A story at a door; the door itself pays where `pays` names the folder of its evidence."""

    async def told() -> None:
        book = Book(ledger, OPERATOR.node, time.time)
        book.add("deposit", deposit(10**9))
        async with swarm_of(folder, spans) as (here, swarm):
            for name, node in here.nodes.items():
                node.till = Till(here.people[name][0], True, PRICE, book.holds)
            poor = Purse(OPERATOR, PRICE, book)  # it has no money: what it paid for would be refused
            app, _ = application(swarm, Serving(), None if pays is None else Billing(poor, pays))
            async with TestClient(TestServer(app)) as client:
                await story(Shop(here, swarm, Purse(PAYER, PRICE, book, operator=OPERATOR), book, client))

    asyncio.run(told())


def test_a_caller_pays_at_the_door_with_its_own_key(folder: Path, tmp_path: Path) -> None:
    """It learns which weights are there, signs an order, gets the claim, settles it, and has evidence that
    anybody can check."""
    shown = tmp_path / "evidence.json"

    async def story(shop: Shop) -> None:
        weights = await shop.weights()
        assert weights == Weights(digest=shop.swarm.model, num_blocks=LAYERS)
        sent, bill = signed(shop.purse, BODY | {OWN: {"trust": []}}, weights)
        status, made = await shop.asked(sent)
        assert status == 200 and shop.book.holds(bill.transaction), "nobody but the caller settles"
        assert made[OWN]["transaction"] == bill.transaction and "evidence" not in made[OWN]
        taken(shop.purse, bill, made)
        assert bill.evidence is not None and shop.book.accounts.held == 0
        found = check(bill.evidence, made[OWN]["tokens"])
        assert (found.answer, found.signed_by, found.recorded_by) == (True, PAYER.node, OPERATOR.node)
        assert found.tokens == len(b"the rivers") + TOKENS - 1
        assert {shop.here.name_of(share.node) for share in found.shares} == {"a", "b"}
        assert written(bill, shown)
        text = tmp_path / "answer.txt"
        text.write_bytes(made["choices"][0]["text"].encode())
        words = ["swarm", "verify", str(shown), "--text", str(text), "--model", str(folder)]
        ran = CliRunner().invoke(command_line, words)
        assert ran.exit_code == 0, ran.output
        assert bill.transaction in ran.output

    play(folder, tmp_path / "ledger.sqlite", story)


def test_the_last_piece_of_a_stream_has_the_claim(folder: Path, tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        sent, bill = signed(shop.purse, BODY, await shop.weights())
        async with shop.client.post("/v1/completions", json=sent | {"stream": True}) as response:
            assert response.headers[TRANSACTION] == bill.transaction
            lines = [line.removeprefix("data: ") for line in (await response.text()).split("\n\n")[:-2]]
        pieces = [json.loads(line) for line in lines]
        assert [OWN in each for each in pieces] == [False] * (len(pieces) - 1) + [True]
        assert pieces[-1]["choices"][0]["finish_reason"] == "length"
        taken(shop.purse, bill, pieces[-1])
        assert bill.evidence is not None and check(bill.evidence).tokens == len(b"the rivers") + TOKENS - 1

    play(folder, tmp_path / "ledger.sqlite", story)


def test_bad_orders_are_refused_in_the_words_of_the_queues_worker(folder: Path, tmp_path: Path) -> None:
    """At the door and by a worker that a queue gave the same request: the same code and the same sentence."""

    async def story(shop: Shop) -> None:
        weights, purse = await shop.weights(), shop.purse
        handle = answering(SwarmDoor(SwarmWriter(shop.swarm, Places(1, 0)), 2**20).answered, COURSE)

        async def worked(body: dict[str, Any]) -> Any:
            told = {
                "transaction": "sha256:" + "0" * 64, "agent": "a", "tenant": "t", "group": "g", "priority": 1,
                "issued_s": time.time(), "deadline_s": time.time() + 60, "body": json.dumps(body),
            }  # fmt: skip
            return json.loads(await handle(Job.of(told), 1))

        async def refused(body: dict[str, Any], status: int, code: str | None, sentence: str) -> None:
            (found, made), by_worker = await shop.asked(body), await worked(body)
            assert (found, made["error"]["code"]) == (status, code), made
            assert sentence in made["error"]["message"]
            if status == 402:  # what is no order never comes to a worker: the agent of the queue reads it
                assert by_worker["error"]["code"] == code and sentence in by_worker["error"]["message"]

        def order(**change: Any) -> dict[str, Any]:
            wanted = weights.model_copy(update={k: v for k, v in change.items() if k in Weights.model_fields})
            terms = {k: v for k, v in change.items() if k not in Weights.model_fields}
            return signed(replace(purse, **terms), BODY, wanted)[0]

        good = order()
        assert (await shop.asked(good))[0] == 200
        await refused(good, 402, ORDER_USED, USED)
        await refused(good | {"prompt": "other rivers"}, 402, ORDER_USED, USED)
        other = f"expected an order for {LAYERS} blocks of {weights.digest}, found one for"
        await refused(order(digest="b2:" + "0" * 32), 402, NOT_PAID, other)
        await refused(order(num_blocks=9), 402, NOT_PAID, f"{other} 9 blocks")
        poor = order(nanousd_per_pass=PRICE - 1)
        await refused(poor, 402, NOT_PAID, f"expected at least {PRICE} nanousd for a block pass")
        await refused(order(book=None), 402, NOT_PAID, "the ledger does not hold the money of this order")
        late = order(wait_s=0.05)
        await asyncio.sleep(0.1)
        await refused(late, 402, NOT_PAID, "the deadline of the order is over")
        far = order(wait_s=MOST_AHEAD_S + 60)
        await refused(far, 402, NOT_PAID, "the deadline of the order is more than 90,000 s ahead")
        await refused(BODY, 402, NOT_PAID, "expected an order")
        broken = order()[OWN]["order"].replace("1", "2", 1)
        for wrong, sentence in (
            (broken, "the signature is not of this key for a order"),
            ("x", "not a valid Seal: value: Invalid JSON"),
            ("", "not a valid Seal: value: Invalid JSON"),
            ("x" * 100_000, "not a valid Limits: order: String should have at most 65536 characters"),
            (5, "not a valid Limits: order: Input should be a valid string"),
        ):
            await refused(BODY | {OWN: {"order": wrong}}, 400, None, sentence)
        assert shop.swarm.sessions == 0

    play(folder, tmp_path / "ledger.sqlite", story)


def test_a_door_that_pays_itself_does_not_for_who_brings_an_order(folder: Path, tmp_path: Path) -> None:
    """It keeps the claim where its own evidence is, for whoever lost the answer."""

    async def story(shop: Shop) -> None:
        sent, bill = signed(shop.purse, BODY, await shop.weights())
        status, made = await shop.asked(sent)
        assert status == 200 and OPERATOR.node not in shop.book.accounts.nonces
        async with shop.client.get(f"/v1/evidence/{bill.transaction}") as response:
            kept = Claim.of(await response.json())
        assert kept == Claim.of(made[OWN]["claim"])
        bill.claimed(shop.purse, kept, made[OWN]["tokens"])
        assert bill.evidence is not None
        assert (await shop.asked(BODY))[0] == 400, "its own purse is empty"

    play(folder, tmp_path / "ledger.sqlite", story, tmp_path / "evidence")


def test_an_order_buys_one_text_at_a_door_though_other_nodes_hold_the_blocks(
    folder: Path, tmp_path: Path
) -> None:
    """Nodes know only what they saw themselves: the door remembers for all of them, and the first evidence
    stays. Nor do two requests that come together get two texts."""

    async def story(shop: Shop) -> None:
        weights = await shop.weights()
        sent, bill = signed(shop.purse, BODY, weights)
        status, made = await shop.asked(sent)
        assert status == 200
        for again in (sent, sent | {"prompt": "other rivers"}, sent | {"stream": True}):
            status, told = await shop.asked(again)
            assert (status, told["error"]["code"], told["error"]["message"]) == (402, ORDER_USED, USED)
        async with shop.client.get(f"/v1/evidence/{bill.transaction}") as response:
            assert await response.json() == made[OWN]["claim"]
        both = signed(shop.purse, BODY, weights)[0]
        answers = await asyncio.gather(*(shop.asked(both | {"prompt": p}) for p in ("one", "two")))
        assert sorted(status for status, _ in answers) == [200, 402]
        assert next(told for status, told in answers if status == 402)["error"]["code"] == ORDER_USED
        jobs = [node.till.jobs for node in shop.here.nodes.values() if node.till is not None]
        assert len(jobs) == 4 and sum(map(len, jobs)) == 4, "two orders, each at two nodes"

    play(folder, tmp_path / "ledger.sqlite", story, tmp_path / "evidence", TWICE)


def test_another_door_does_not_know_and_its_nodes_are_not_paid(folder: Path, tmp_path: Path) -> None:
    """What is not protected, until the order is settled: then nodes that read the ledger refuse it."""

    async def story(shop: Shop) -> None:
        sent, bill = signed(shop.purse, BODY, await shop.weights())
        app, _ = application(shop.swarm, Serving())
        async with TestClient(TestServer(app)) as client:
            other = replace(shop, client=client)
            (_, first), (status, second) = await shop.asked(sent), await other.asked(sent)
            assert status == 200 and first[OWN]["claim"] != second[OWN]["claim"]
            taken(shop.purse, bill, first)
            unpaid = Bill(bill.order)
            taken(shop.purse, unpaid, second)
            assert bill.evidence is not None and unpaid.evidence is None and unpaid.problem
        for node in shop.here.nodes.values():
            assert node.till is not None
            node.till.jobs.clear()  # as of nodes that never saw it
        app, _ = application(shop.swarm, Serving())
        async with TestClient(TestServer(app)) as client:
            status, told = await replace(shop, client=client).asked(sent)
            assert (status, told["error"]["code"]) == (402, NOT_PAID)
            assert "the ledger does not hold the money of this order" in told["error"]["message"]

    play(folder, tmp_path / "ledger.sqlite", story, spans=TWICE)


def test_an_order_for_which_nothing_was_done_may_come_again(folder: Path, tmp_path: Path) -> None:
    """Nodes refused it, since the ledger did not hold its money yet; or the prompt was too long."""

    async def story(shop: Shop) -> None:
        weights = await shop.weights()
        sent, bill = signed(replace(shop.purse, book=None), BODY, weights)
        status, told = await shop.asked(sent)
        assert (status, told["error"]["code"]) == (402, NOT_PAID)
        shop.book.hold(bill.order)
        assert (await shop.asked(sent | {"max_tokens": 10_000}))[0] == 400
        assert (await shop.asked(sent))[0] == 200
        assert (await shop.asked(sent))[1]["error"]["code"] == ORDER_USED

    play(folder, tmp_path / "ledger.sqlite", story)


def test_a_door_forgets_no_order_before_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no more instead."""
    monkeypatch.setattr(ordering, "MOST_TAKEN", 2)
    orders, purse, done = TakenOrders(), Purse(PAYER, PRICE), Course(routes=["through blocks"])
    short, long, third = (purse.billed("b2:" + "0" * 32, LAYERS, "a", 5, s).order for s in (10, 600, 600))
    now_s = order_of(short).issued_s

    def refused(text: str, at_s: float) -> tuple[str | None, str]:
        with pytest.raises(Refusal) as error, orders.once(text, done, at_s):
            raise AssertionError("not taken")
        assert error.value.status == 402
        return error.value.code, str(error.value)

    for text in (short, long):
        with orders.once(text, done, now_s):
            assert refused(text, now_s) == (ORDER_USED, USED), "while the first is written"
    assert refused(short, now_s + 9) == (ORDER_USED, USED)
    assert refused(third, now_s + 9) == (NOT_PAID, "2 orders are known, more are not taken")
    with orders.once(third, done, now_s + 11):
        assert len(orders.deadlines_s) == 2
    assert refused(short, now_s + 11) == (NOT_PAID, "the deadline of the order is over")
    assert refused(long, now_s + 11) == (ORDER_USED, USED)


def test_evidence_that_is_kept_stays(tmp_path: Path) -> None:
    purse = Purse(PAYER, PRICE)
    billing, order = Billing(purse, tmp_path), purse.billed("b2:" + "0" * 32, LAYERS, "a", 5).order
    claims = [
        Claim(order=order, receipts=("a receipt",), answer=answer_digest(tokens)) for tokens in ([1], [2])
    ]
    first, second = (Bill(order, claim=claim) for claim in claims)
    for bill in (first, second):
        billing.keep(bill)
    (kept,) = tmp_path.iterdir()
    assert Claim.parse(kept.read_bytes()) == first.claim
