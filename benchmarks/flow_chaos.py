"""Requests that are paid for, from a wallet to verified answers, while things are killed, cut off and lied
about; and what the ledger says in the end. For the benchmark and the test of the whole flow."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow_client import Client, Question
from flow_place import CLIENT, LIAR, NODES, WORKERS, Place

from metainf.api import ledger
from metainf.domain import BadInput
from metainf.swarm.ledger.book import Book
from metainf.swarm.ledger.evidence import Checked
from metainf.swarm.ledger.words import Settlement
from metainf.swarm.trust.identity import kept
from metainf.swarm.trust.sealed import opened
from metainf.swarm.trust.signing import Replayed
from metainf.testing.networks import Visitor

FAULTS = ("worker", "node", "queue", "cut")
ODD = ("cheap", "poor", "late", "replayed")
"""Requests that must be refused: too low a price, too little money, no time, an order that was settled."""
REASONS = {
    "cheap": ("not_paid",), "poor": ("no_money",), "late": ("too_late", "not_served"),
    "replayed": ("not_paid", "order_used"),
}  # fmt: skip
Write = Callable[[Path, list[int], int], list[int]]
"""The tokens that one process writes: the model's folder, the prompt, how many."""
OWN_EVERY = 2
"""Every second request is ordered and settled by the wallet itself, the others by the agent."""
AHEAD_S = 86_400.0
"""After all deadlines."""


@dataclass(frozen=True)
class Plan:
    """How many requests, how many at once, of how many tokens; how many faults there are, and requests of
    each odd kind; how long what was killed or cut off is away."""

    requests: int = 1000
    at_once: int = 8
    tokens: int = 6
    faults: int = 32
    odd: int = 5
    node_away_s: float = 1.0
    queue_away_s: float = 0.5
    cut_s: float = 2.0
    deadline_s: float = 120.0
    seed: int = 11


@dataclass
class Came:
    """What came of it. `refused` counts honest requests by reason, `unlike` odd ones that were answered or
    refused for another reason than theirs; `own` answers the wallet paid itself; `partly` answers have
    receipts that do not cover all blocks, `unsigned` ones none. Money in nanousd: `paid` to nodes as accounts
    have it, `settled` as the settlements add up, `shown` as evidence does."""

    answered: int = 0
    own: int = 0
    wrong: int = 0
    partly: int = 0
    unsigned: int = 0
    unsettled: int = 0
    forged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)
    unlike: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    twice: int = 0
    settlements: int = 0
    refunds: int = 0
    deposited: int = 0
    paid: int = 0
    settled: int = 0
    shown: int = 0
    liar: int = 0
    refunded: int = 0
    left: int = 0
    held: int = 0
    errors: list[str] = field(default_factory=list)

    def failed(self, why: object) -> None:
        """Remember the first of what went wrong."""
        if len(self.errors) < 30:
            self.errors.append(str(why)[:400])


@dataclass
class _Fault:
    """What happens, after so many requests have begun."""

    after: int
    kind: str
    due: asyncio.Event = field(default_factory=asyncio.Event)


class Flow:
    """One play. The place runs already."""

    def __init__(self, place: Place, plan: Plan, questions: Sequence[Question]) -> None:
        self.place, self.plan, self.questions = place, plan, questions
        self.rng, self.came, self.begun = random.Random(plan.seed), Came(), 0
        self.evidence = place.folder / "evidence"
        self.evidence.mkdir()
        self.checked: dict[str, Checked] = {}
        self.orders: list[str] = []
        kinds = [kind for _ in range(-(-plan.faults // len(FAULTS))) for kind in self._shuffled(FAULTS)]
        first, last = plan.at_once, max(plan.at_once + 1, plan.requests * 4 // 5)
        after = sorted(self.rng.randrange(first, last) for _ in range(plan.faults))
        self.faults = [_Fault(at, kind) for at, kind in zip(after, kinds, strict=False)]
        numbers = self.rng.sample(range(plan.at_once, plan.requests), plan.odd * len(ODD))
        self.odd = {number: ODD[at % len(ODD)] for at, number in enumerate(numbers)}

    def _shuffled(self, kinds: Sequence[str]) -> list[str]:
        return self.rng.sample(list(kinds), len(kinds))

    async def play(self) -> Came:
        """Ask everything, then look at the ledger."""
        gate = asyncio.Semaphore(self.plan.at_once)
        with Visitor(self.place.network.hosts[CLIENT]) as visitor:
            async with Client.at(self.place, visitor) as client:
                begun = time.perf_counter()
                striking = asyncio.create_task(self._strike())
                asked = [self._one(number, gate, client) for number in range(self.plan.requests)]
                await asyncio.gather(striking, *asked)
                self.came.seconds = time.perf_counter() - begun
        self._balanced()
        return self.came

    async def _one(self, number: int, gate: asyncio.Semaphore, client: Client) -> None:
        async with gate:
            for fault in self.faults:
                if fault.after <= number:
                    await fault.due.wait()
            self.begun += 1
            question = self.questions[number % len(self.questions)]
            kind = self.odd.get(number)
            if kind is None:
                own = number % OWN_EVERY == 0
                self._judged(question, *await client.ask(question, self.plan.deadline_s, own))
                return
            while kind == "replayed" and not self.orders:
                await asyncio.sleep(0.05)
            order = self.orders[0] if self.orders else ""
            reason, why = await client.refused(kind, question, order)
            self.came.odd[f"{kind}: {reason}"] += 1
            if reason not in REASONS[kind]:
                self.came.unlike += 1
                self.came.failed(f"{kind}: {reason}: {why}")

    def _judged(self, question: Question, status: int, made: dict[str, Any]) -> None:
        """Compare an answer, and check its evidence as `metainf swarm verify` does."""
        came = self.came
        if "error" in made:
            code = made["error"].get("code") or made["error"].get("type") or "no reason"
            came.refused[code] += 1
            came.failed(f"{status} {code}: {made['error'].get('message')}")
            return
        came.answered += 1
        if made["choices"][0]["text"] != question.text:
            came.wrong += 1
            came.failed(f"expected {question.text!r}, found {made['choices'][0]['text']!r}")
        own = made["metainf"]
        came.own += own.get("own", False)
        if own.get("evidence") is None:
            came.unsigned += own["problem"] is None
            came.unsettled += own["problem"] is not None
            came.failed(f"no evidence: {own['problem']}")
            return
        path = self.evidence / f"{own['transaction'].removeprefix('sha256:')}.json"
        path.write_text(json.dumps(own["evidence"]), encoding="utf-8")
        try:
            checked = ledger.verify(path, question.tokens)
        except BadInput as error:
            came.forged += 1
            came.failed(error)
            return
        if not checked.answer or checked.transaction != own["transaction"]:
            came.forged += 1
            came.failed(f"{own['transaction']}: evidence of another answer")
        came.partly += checked.tokens < len(question.prompt.encode()) + len(question.tokens) - 1
        came.twice += checked.transaction in self.checked
        self.checked[checked.transaction] = checked
        self.orders.append(own["evidence"]["order"])

    async def _strike(self) -> None:
        """One fault after another, each when enough has been asked and the one before is mended."""
        place, plan = self.place, self.plan
        for fault in self.faults:
            while self.begun < fault.after:
                await asyncio.sleep(0.01)
            self.came.faults[fault.kind] += 1
            fault.due.set()
            await asyncio.sleep(self.rng.uniform(0.0, 0.1))  # somewhere within a text
            if fault.kind == "cut":
                place.network.cut(self.rng.choice(WORKERS), self.rng.choice(NODES))
                await asyncio.sleep(plan.cut_s)
                place.network.heal()
                continue
            several = {"node": place.nodes, "worker": place.workers}.get(fault.kind, [place.queue])
            part = self.rng.choice(several)
            part.kill()
            await asyncio.sleep(plan.queue_away_s if part is place.queue else plan.node_away_s)
            part.start()
            await part.up()

    def _balanced(self) -> None:
        """Refund what was never settled, and count all money."""
        came, place = self.came, self.place
        operator = kept(place.operator)
        with Book(place.ledger, operator.node, lambda: time.time() + AHEAD_S) as book:
            for transaction, escrow in list(book.accounts.escrows.items()):
                if escrow.state == "open":
                    book.add("refund", order=transaction)
                    came.refunded += escrow.order.price_nanousd
                    came.refunds += 1
            settled = [entry for entry in book.entries() if entry.kind == "settlement"]
            words = [opened(Settlement, entry.sealed or "").word for entry in settled]
            came.settlements = len(words)
            came.twice += len(words) - len({word.order for word in words})
            came.settled = sum(share.nanousd for word in words for share in word.shares)
            came.shown = sum(each.paid_nanousd for each in self.checked.values())
            if settled:
                self._again(book, settled[0].sealed or "", settled[0].receipts)
            found = book.accounts
            nodes = {place.node_id(at) for at in range(len(NODES))}
            came.deposited, came.held = found.deposited, found.held
            came.paid = sum(found.balances.get(node, 0) for node in nodes)
            came.liar = found.balances.get(place.node_id(LIAR), 0)
            came.left = sum(money for account, money in found.balances.items() if account not in nodes)

    def _again(self, book: Book, settlement: str, receipts: Sequence[str]) -> None:
        """A settlement that is sent once more must be refused."""
        try:
            book.add("settlement", settlement, receipts)
        except Replayed:
            return
        self.came.twice += 1


def questions_of(folder: Path, count: int, tokens: int, write: Write) -> list[Question]:
    """Different prompts for the model in the folder, with what one process writes after them."""
    from metainf.swarm.host.tokens import Tokens

    reading, found = Tokens(folder), []
    for number in range(count):
        prompt = f"{number} rivers run to the sea"
        answer, text = write(folder, reading.encode(prompt), tokens), reading.text()
        said = "".join(text.add([token]) for token in answer) + text.rest()
        found.append(Question(prompt, tuple(answer), said))
    return found
