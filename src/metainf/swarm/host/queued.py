"""OpenAI's API in front of the queue: requests wait for whoever may serve them, most urgent first.

Answers come whole; who asks for a stream gets one that begins when the text is there.
"""

import json
import math
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from metainf.domain import BadInput, NoFeasible
from metainf.hosts.asked import Json, Refusal
from metainf.hosts.openai import refused
from metainf.swarm.broker.agent import Agent, TooLate
from metainf.swarm.broker.believing import Believed
from metainf.swarm.broker.deciding import choose_group, expected_s, groups_of, priority_of, work_s
from metainf.swarm.broker.lengths import lengths
from metainf.swarm.broker.members import bucket, made_at, members, waiting_by_group
from metainf.swarm.broker.sizes import size_of
from metainf.swarm.broker.streams import MEMBER_S, BrokerLost, Crowded
from metainf.swarm.broker.words import MOST_BODY, Group, Job, Member
from metainf.swarm.host.limits import OWN
from metainf.swarm.host.ordering import Weights, billed, models_told, order_of, running, taken
from metainf.swarm.host.paying import Bill, Purse
from metainf.swarm.host.queue_answers import INVALID, at_once, reason_of, refusal_of, status_of
from metainf.swarm.host.queue_metrics import REFUSED, OfQueue, page
from metainf.swarm.host.traced import traced
from metainf.swarm.host.wanted import Asked
from metainf.swarm.net.hiring import ORDER_USED
from metainf.swarm.plan.overview import Queue
from metainf.swarm.privacy.words import Required
from metainf.swarm.trust.sealed import digest

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

WANTED, LOOK_S = "X-Metainf-Wanted-S", 1.0
ORDERS = 3
"""At most so many are made for one request: a worker may die with one that nodes have seen."""
SETTLE_S = 60.0
"""So long an order outlives its request: time to settle what was done at the last moment."""
MISTAKES = (BadInput, ValueError, TypeError, RecursionError)
EXPECTED = (*MISTAKES, Refusal, NoFeasible, Crowded, TooLate, BrokerLost)


@dataclass
class Desk:
    """An agent, the groups it knows, the purse it pays from, if any, and the class of privacy that all of its
    jobs require."""

    agent: Agent
    purse: Purse | None = None
    most_body: int = MOST_BODY
    required: Required = field(default_factory=Required)
    tally: Counter[str] = field(default_factory=Counter)
    believed: Believed = field(default_factory=lambda: Believed(time.time))
    _kept: Any = None
    _members: list[Member] = field(default_factory=list)
    _waiting: dict[str, int] = field(default_factory=dict)
    _read_s: float = -math.inf
    _lost_s: float = -math.inf
    _made: datetime | None = None

    async def groups(self) -> list[Group]:
        """Who serves now, as of a second ago at most. While the queue is away, and until workers have found
        it again, those known before, for as long as their words live. Raises BrokerLost."""
        if time.monotonic() - self._read_s > LOOK_S or not self._members:
            try:
                await self._look()
            except BrokerLost:
                self._kept, self._lost_s = None, time.monotonic()
                if not self._members or self._lost_s - self._read_s > MEMBER_S:
                    raise
        return groups_of(self._members, self._waiting, self.believed.reputation)

    async def _look(self) -> None:
        self._kept = self._kept or await bucket(self.agent.stream, self.agent.replicas)
        stream = self.agent.stream
        found, waiting, made = (
            await members(self._kept),
            await waiting_by_group(stream),
            await made_at(stream),
        )
        now = time.monotonic()
        if self._made not in (None, made):
            self._lost_s = now
        self._made = made
        if found or now - self._lost_s > MEMBER_S:  # else nobody has had the time to say so again
            self._members, self._read_s = found, now
        self._waiting = waiting

    async def answer(self, body: Json, wanted_s: float | None = None) -> Json:
        """OpenAI's answer to a request, or its error. Raises BadInput, Crowded, TooLate, BrokerLost,
        NoFeasible, Refusal."""
        own = body.pop(OWN, None) or {}
        asked = Asked.of(own if wanted_s is None else {**own, "wanted_s": wanted_s})
        if not isinstance(body.get("model"), str):
            raise BadInput("expected the name of a model")
        wish, groups = asked.wish(body["model"], self.required), await self.groups()
        if asked.order is not None:
            groups = running(groups, self._members, order_of(asked.order))
        chosen, size = choose_group(wish, groups), size_of(body)
        member = next(each for each in self._members if each.group == chosen.name)
        wish = wish.model_copy(update={"work_s": work_s(chosen, size)})
        job = {
            "agent": self.agent.name,
            "tenant": asked.tenant,
            "group": chosen.name,
            "priority": priority_of(wish),
            "deadline_s": time.time() + asked.deadline_s,
        }
        enough = asked.deadline_s > expected_s(chosen) + max(0.0, wish.work_s - chosen.request_s)
        try:
            made = await self._tried(body, asked.limits(self.required), (member, job))
        except (Refusal, TooLate) as error:
            if enough or isinstance(error, Refusal):
                self.believed.saw(chosen.name, failed=True)
            raise
        self.believed.saw(chosen.name, failed=False)
        return made

    async def _tried(self, body: Json, limits: Json, work: tuple[Member, Json]) -> Json:
        """With a new order where nodes know the one before, and it is not the caller's."""
        for _ in range(ORDERS):
            made = await self._once(body, limits, work)
            if "order" in limits or (made.get("error") or {}).get("code") != ORDER_USED:
                break
        return made

    async def _once(self, body: Json, limits: Json, work: tuple[Member, Json]) -> Json:
        """The answer to one job, with an order of its own where it is paid for. A caller's order that comes
        again with the same request is the same job, with another one it is not: orders are no secrets."""
        (member, told), now = work, time.time()
        bill = None
        if "order" not in limits:
            bill = self._bill(body, member, max(told["deadline_s"] - now, 0.0) + SETTLE_S)
        if bill is not None:
            limits = limits | {"order": bill.order}
        sent = json.dumps(body | {OWN: limits} if limits else body)
        name = digest(sent if "order" in limits else os.urandom(32))
        own = {
            "transaction": name if bill is None else bill.transaction, "issued_s": now, "body": sent,
        }  # fmt: skip
        reply = await self.agent.ask(Job.of(told | own))
        if reply.error is not None:
            raise Refusal(502, "api_error", "not_served", reply.error)
        made: Json = json.loads(reply.body or "{}")
        if bill is not None and self.purse is not None:
            taken(self.purse, bill, made)
            made[OWN] = bill.told()
        return made

    def _bill(self, body: Json, subject: Member, wait_s: float) -> Bill | None:
        """An order for a request, where this desk pays."""
        if self.purse is None:
            return None
        if subject.digest is None or subject.num_blocks is None:
            raise BadInput(f"expected a group that says which weights it runs, found none in {subject.group}")
        weights = Weights(digest=subject.digest, num_blocks=subject.num_blocks)
        return billed(self.purse, body, weights, wait_s)

    def application(self, middlewares: list[Any]) -> "Application":
        """OpenAI's paths."""
        from aiohttp import web

        app = web.Application(client_max_size=self.most_body, middlewares=[traced(), *middlewares])
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    async def _health(self, _: "Request") -> "StreamResponse":
        from aiohttp import web

        return web.json_response({"status": "ok"})

    async def _metrics(self, _: "Request") -> "StreamResponse":
        from aiohttp import web

        try:
            found = await lengths(self.agent.stream)
            groups = {group.name for group in await self.groups()}
        except BrokerLost as error:
            groups, found = set(), Queue(lost=str(error))
        text, kind = page(OfQueue(self.tally, found, groups))
        return web.Response(body=text, headers={"Content-Type": kind})

    async def _models(self, _: "Request") -> "StreamResponse":
        from aiohttp import web

        try:
            names = {group.model for group in await self.groups()}
        except BrokerLost as error:
            return refused(refusal_of(error))
        return web.json_response(models_told(names, self._members))

    async def _complete(self, request: "Request") -> "StreamResponse":
        from aiohttp import web

        self.tally["asked"] += 1
        try:
            body = await request.json()
            chat = request.path.endswith("/chat/completions")
            if not isinstance(body, dict) or ("messages" if chat else "prompt") not in body:
                raise BadInput(f"expected a JSON object with {'messages' if chat else 'prompt'}")
            streamed = bool(body.pop("stream", False))
            body.pop("stream_options", None)
            if not chat:
                body.pop("messages", None)
            wanted = request.headers.get(WANTED)
            made = await self.answer(body, None if wanted is None else float(wanted))
        except EXPECTED as error:
            refusal = refusal_of(error)
            self.tally[f"{REFUSED}{refusal.code or INVALID}"] += 1
            return refused(refusal)
        if "error" in made:
            self.tally[f"{REFUSED}{reason_of(made['error'])}"] += 1
            return web.json_response(made, status=status_of(made["error"]))
        self.tally["answered"] += 1
        return await at_once(request, made) if streamed else web.json_response(made)
