"""OpenAI's API in front of the queue: requests wait for whoever may serve them, most urgent first.

Answers come whole; who asks for a stream gets one that begins when the text is there.
"""

import json
import math
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveFloat

from metainf.domain import BadInput, NoFeasible
from metainf.domain.base import Frozen
from metainf.hosts.asked import Json, Refusal
from metainf.hosts.openai import refused
from metainf.swarm.broker.agent import Agent, TooLate
from metainf.swarm.broker.believing import Believed
from metainf.swarm.broker.deciding import choose_group, expected_s, groups_of, priority_of
from metainf.swarm.broker.members import bucket, made_at, members, waiting_by_group
from metainf.swarm.broker.streams import MEMBER_S, BrokerLost, Crowded
from metainf.swarm.broker.words import MOST_BODY, Group, Job, Member, Token, Wish
from metainf.swarm.host.limits import OWN
from metainf.swarm.host.ordering import Weights, billed, models_told, order_of, running, taken
from metainf.swarm.host.paying import Bill, Purse
from metainf.swarm.host.serving import traced
from metainf.swarm.net.hiring import NOT_PAID, ORDER_USED
from metainf.swarm.trust.sealed import MOST_BYTES, digest

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

WANTED, LOOK_S = "X-Metainf-Wanted-S", 1.0
ORDERS = 3
"""At most so many are made for one request: a worker may die with one that nodes have seen."""
SETTLE_S = 60.0
"""So long an order outlives its request: time to settle what was done at the last moment."""


class Asked(Frozen):
    """What a request says of itself in its field `metainf`: within how many seconds an answer is wanted, when
    it is of no use any more, who may serve it, limits for the swarm that does (`host.limits`), and the sealed
    `order` of a caller who pays for it."""

    wanted_s: PositiveFloat = 60.0
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    tenant: Token = "everybody"
    hardware: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    most_usd_per_hour: PositiveFloat | None = None
    ttft_s: PositiveFloat | None = None
    tpot_s: PositiveFloat | None = None
    most_usd: PositiveFloat | None = None
    order: Annotated[str, Field(max_length=MOST_BYTES)] | None = None

    def limits(self) -> Json:
        """What the worker is told."""
        return self.model_dump(include={"ttft_s", "tpot_s", "most_usd", "order"}, exclude_none=True)


@dataclass
class Desk:
    """An agent, the groups it knows, and the purse it pays from, if any."""

    agent: Agent
    purse: Purse | None = None
    most_body: int = MOST_BODY
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
        told = asked.model_dump(include={"hardware", "regions", "labels", "most_usd_per_hour", "wanted_s"})
        wish, groups = Wish.of({"model": body["model"], **told}), await self.groups()
        if asked.order is not None:
            groups = running(groups, self._members, order_of(asked.order))
        chosen = choose_group(wish, groups)
        member = next(each for each in self._members if each.group == chosen.name)
        wish = wish.model_copy(update={"work_s": chosen.request_s})
        job = {
            "agent": self.agent.name,
            "tenant": asked.tenant,
            "group": chosen.name,
            "priority": priority_of(wish),
            "deadline_s": time.time() + asked.deadline_s,
        }
        enough = asked.deadline_s > expected_s(chosen)
        try:
            made = await self._tried(body, asked.limits(), (member, job))
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
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    async def _health(self, _: "Request") -> "StreamResponse":
        from aiohttp import web

        return web.json_response({"status": "ok"})

    async def _models(self, _: "Request") -> "StreamResponse":
        from aiohttp import web

        try:
            names = {group.model for group in await self.groups()}
        except BrokerLost as error:
            return refused(_refusal(error))
        return web.json_response(models_told(names, self._members))

    async def _complete(self, request: "Request") -> "StreamResponse":
        from aiohttp import web

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
        except (Refusal, BadInput, NoFeasible, Crowded, TooLate, BrokerLost, ValueError, TypeError) as error:
            return refused(_refusal(error))
        if "error" in made:
            return web.json_response(made, status=_status(made["error"]))
        return await _at_once(request, made) if streamed else web.json_response(made)


def _status(error: Json) -> int:
    """Of an error that a worker answered with."""
    if error.get("code") in (ORDER_USED, NOT_PAID):
        return 402
    return 400 if error.get("type") == "invalid_request_error" else 502


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    kinds: tuple[tuple[type[Exception], int, str, float | None], ...] = (
        (Crowded, 429, "crowded", 5.0),
        (TooLate, 504, "too_late", None),
        (BrokerLost, 503, "no_queue", 5.0),
        (NoFeasible, 503, "no_group", 5.0),
    )
    for kind, status, code, wait_s in kinds:
        if isinstance(error, kind):
            return Refusal(status, "api_error", code, str(error), wait_s)
    return Refusal(400, "invalid_request_error", None, str(error))


async def _at_once(request: "Request", made: Json) -> "StreamResponse":
    """A whole answer as a stream of one event."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    choices = []
    for each in made["choices"]:
        message = each.pop("message", None)
        choices.append(each if message is None else each | {"delta": message})
    kind = made["object"]
    event = made | {"choices": choices, "object": kind + (".chunk" if kind == "chat.completion" else "")}
    for line in (json.dumps(event, ensure_ascii=False), "[DONE]"):
        await response.write(f"data: {line}\n\n".encode())
    return response
