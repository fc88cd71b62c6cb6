"""A client with a wallet, on a host of its own: it asks an agent over HTTP, lets it pay or signs and settles
orders with a key of its own, and tries what must fail."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from flow_place import PRICE, Place

from metainf.domain import MetaInfError
from metainf.swarm.broker.agent import Agent, TooLate
from metainf.swarm.broker.words import Job
from metainf.swarm.host.ordering import Weights, signed, taken
from metainf.swarm.host.paying import Purse, ledger_of
from metainf.swarm.host.queued import ORDERS, SETTLE_S, Desk
from metainf.swarm.net.hiring import ORDER_USED
from metainf.swarm.trust.identity import kept
from metainf.swarm.trust.sealed import digest
from metainf.swarm.trust.signing import Refused
from metainf.testing.networks import Visitor

PATIENCE_S, LATE_S = 300.0, 0.001
"""More than any deadline; less than anything takes."""
RICH, POOR = 10**7, 10
AWAY, TRIES = ("BrokerLost", "NoFeasible"), 20


@dataclass(frozen=True)
class Question:
    """A prompt, and what one process writes after it."""

    prompt: str
    tokens: tuple[int, ...]
    text: str


class Client:
    """Made by `at`."""

    def __init__(self, place: Place, visitor: Visitor) -> None:
        self.place, self.visitor = place, visitor
        self.kept = AsyncExitStack()
        for name, nanousd in (("odd", RICH), ("poor", POOR), ("wallet", RICH)):
            place.deposit(name, nanousd)

    @classmethod
    @asynccontextmanager
    async def at(cls, place: Place, visitor: Visitor) -> AsyncIterator["Client"]:
        """One that stands where the visitor stands."""
        made = cls(place, visitor)
        try:
            await visitor.does(made._open())
            yield made
        finally:
            await visitor.does(made.kept.aclose())

    async def _open(self) -> None:
        enter = self.kept.enter_async_context
        patience = aiohttp.ClientTimeout(total=PATIENCE_S)
        self.web = await enter(aiohttp.ClientSession(timeout=patience))
        self.agent = await enter(Agent(self.place.url, "odd"))
        self.book = self.kept.enter_context(ledger_of(self.place.ledger))
        self.wallet = Purse(kept(self.place.folder / "wallet.key"), PRICE, self.book)

    async def ask(self, question: Question, deadline_s: float, own: bool) -> tuple[int, dict[str, Any]]:
        """Status and answer of the agent, which pays; or the wallet does, where it is its `own` order."""
        body = _body(question, deadline_s)
        return await self.visitor.does(self._paid(body, deadline_s) if own else self._asked(body))

    async def refused(self, kind: str, question: Question, order: str) -> tuple[str, str]:
        """Ask in a way that must be refused: the reason in a word, and as it was told. A queue that is away
        is asked again."""
        for _ in range(TRIES):
            reason, why = await self.visitor.does(self._refused(kind, question, order))
            if reason not in AWAY:
                break
            await asyncio.sleep(1.0)
        return reason, why

    async def _asked(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            async with self.web.post(f"{self.place.agent_url}/v1/completions", json=body) as response:
                return response.status, await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, {"error": {"code": "no_agent", "message": repr(error)}}

    async def _paid(self, body: dict[str, Any], deadline_s: float) -> tuple[int, dict[str, Any]]:
        """With orders of the wallet: a new one where nodes have seen the one before. What came is settled."""
        weights = await self._weights()
        for _ in range(ORDERS):
            sent, bill = signed(self.wallet, body, weights, deadline_s + SETTLE_S)
            status, made = await self._asked(sent)
            if (made.get("error") or {}).get("code") != ORDER_USED:
                break
        if "error" not in made:
            taken(self.wallet, bill, made)
            made["metainf"] = bill.told() | {"own": True}
        return status, made

    async def _weights(self) -> Weights:
        """What the agent says that orders are for, once it says so."""
        for _ in range(TRIES):
            async with self.web.get(f"{self.place.agent_url}/v1/models") as response:
                models = (await response.json()).get("data") or []
            if models and models[0]["metainf"]["weights"]:
                return Weights.of(models[0]["metainf"]["weights"][0])
            await asyncio.sleep(1.0)
        raise TimeoutError("nobody says which weights there are")

    async def _refused(self, kind: str, question: Question, order: str) -> tuple[str, str]:
        price = PRICE - 1 if kind == "cheap" else PRICE
        payer = kept(self.place.folder / ("poor.key" if kind == "poor" else "odd.key"))
        desk = Desk(self.agent, Purse(payer, price, self.book))
        body = _body(question, LATE_S if kind == "late" else PATIENCE_S)
        try:
            made = await (self._replayed(desk, body, order) if kind == "replayed" else desk.answer(body))
        except TooLate as error:
            return "too_late", str(error)
        except Refused as error:
            return ("no_money" if "nanousd on the account" in str(error) else "refused"), str(error)
        except MetaInfError as error:
            return getattr(error, "code", None) or type(error).__name__, str(error)
        if "error" not in made:
            return "answered", json.dumps(made)
        return str(made["error"]["code"]), str(made["error"]["message"])

    async def _replayed(self, desk: Desk, body: dict[str, Any], order: str) -> dict[str, Any]:
        """A job of its own with an order that another job had."""
        now = time.time()
        while not (groups := await desk.groups()):  # a server that came back empty is told anew who serves
            await asyncio.sleep(0.2)
        (group,) = groups
        job = Job.of(
            {
                "transaction": digest(os.urandom(32)), "agent": self.agent.name, "tenant": "everybody",
                "group": group.name, "issued_s": now, "deadline_s": now + PATIENCE_S,
                "body": json.dumps(body | {"metainf": {"order": order}}),
            }
        )  # fmt: skip
        reply = await self.agent.ask(job)
        told = {"error": {"code": "not_served", "message": reply.error}}
        return told if reply.body is None else dict(json.loads(reply.body))


def _body(question: Question, deadline_s: float) -> dict[str, Any]:
    return {
        "model": "small", "prompt": question.prompt, "max_tokens": len(question.tokens), "ignore_eos": True,
        "metainf": {"deadline_s": deadline_s, "wanted_s": 30.0},
    }  # fmt: skip
