"""A swarm behind OpenAI's API: the door of MetaInf's hosts, with a key, a line, and a swarm behind it."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from metainf.domain import BadInput, MetaInfError, NoFeasible
from metainf.domain.base import Frozen
from metainf.hosts import https
from metainf.hosts.asked import Ask, Json, Piece, Refusal
from metainf.hosts.counters import Counters
from metainf.hosts.guards import LOOPBACK, guard
from metainf.hosts.openai import Door, listen, refused
from metainf.hosts.paths import reply
from metainf.hosts.places import Places
from metainf.hosts.start import take
from metainf.hosts.tracing import send
from metainf.swarm.broker.sizes import CHAT_TOKENS
from metainf.swarm.host.believing import Manner
from metainf.swarm.host.billing import Billing, coursed, prepare
from metainf.swarm.host.caller import Caller
from metainf.swarm.host.generating import Course, Joined, Swarm
from metainf.swarm.host.limits import OWN, bounded, limits_in, limits_of
from metainf.swarm.host.ordering import TakenOrders, Weights, model_told, own_bill
from metainf.swarm.host.traced import closing_traces, traced
from metainf.swarm.net.directory import DirectoryLost
from metainf.swarm.net.hiring import NotPaid
from metainf.swarm.privacy.words import Required

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

COURSE: ContextVar[Course | None] = ContextVar("course", default=None)
"""Where to write down how the text of this request comes to be, and who pays for it."""
LOG = logging.getLogger("metainf.swarm")
NO_ROUTE_WAIT_S = 5.0
OWN_ERROR = "an error of the server; its log tells more"
UNKNOWN = (
    *("tools", "tool_choice", "functions", "logit_bias", "logprobs", "top_logprobs", "best_of", "echo"),
    *("suffix", "presence_penalty", "frequency_penalty", "response_format", "audio", "modalities", "top_k"),
    *("min_p", "repetition_penalty", "min_tokens", "stop_token_ids"),
)
"""What would change the answer and is not done here: asked for, it is refused rather than passed over."""
HARMLESS: Mapping[str, Any] = {
    "best_of": 1,
    "tool_choice": "none",
    "modalities": ["text"],
    "response_format": {"type": "text"},
    "repetition_penalty": 1,
}


class Serving(Frozen):
    """Where to listen and how much to take on. `places` texts are written at once, `in_line` wait."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8323
    api_key: str | None = Field(default=None, min_length=1, repr=False)
    name: str | None = None
    places: PositiveInt = 8
    in_line: NonNegativeInt = 32
    replicas: bool = True
    grace_s: PositiveFloat = 30.0
    most_body_bytes: PositiveInt = 4 * 2**20
    certificate: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext | None:
        """For HTTPS; None without a certificate. Raises BadInput."""
        return https.context(*(None if each is None else Path(each) for each in (self.certificate, self.key)))

    @property
    def public(self) -> bool:
        """Whether other machines reach it."""
        return self.host not in LOOPBACK


class SwarmWriter:
    """A swarm as the writer behind a door. Failures come out as refusals in OpenAI's words."""

    def __init__(self, swarm: Swarm, places: Places) -> None:
        self.swarm, self.places, self.model = swarm, places, swarm.name
        self.orders = TakenOrders()
        self.counters = Counters("metainf_swarm")
        self.counters.facts = {"model": swarm.name, "digest": swarm.model}

    def begin(self, events: asyncio.AbstractEventLoop) -> None:
        """Nothing: texts are written in the event loop."""

    async def submit(self, ask: Ask) -> AsyncIterator[Piece]:
        """Pieces of one text, once its turn has come. Nodes and place are free before the last goes out."""
        self.swarm.prompt(ask)
        course, sums, piece = COURSE.get() or Course(), self.counters.sums, None
        async with self.places.place():
            try:
                with self.orders.once(limits_in(ask).order, course, time.time()):
                    async with aclosing(self.swarm.stream(ask, course)) as pieces:
                        async for piece in pieces:
                            if piece.finished is None:
                                yield piece
                sums["requests_answered"] += 1
            except NotPaid as error:
                sums["requests_not_paid"] += 1
                raise Refusal(402, "invalid_request_error", error.code, str(error)) from None
            except (NoFeasible, DirectoryLost) as error:
                sums["requests_without_route"] += 1
                raise Refusal(503, "api_error", "no_route", str(error), NO_ROUTE_WAIT_S) from None
            except MetaInfError:
                raise
            except Exception:
                LOG.exception("an error of MetaInf's own")
                raise Refusal(500, "api_error", "internal", OWN_ERROR) from None
            finally:
                sums["prompt_tokens"] += piece.input_tokens if piece else 0
                sums["generation_tokens"] += piece.output_tokens if piece else 0
                sums["recoveries"] += len(course.recoveries)
        if piece is not None:
            yield piece

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation."""
        return self.swarm.tokens.render(messages)

    def metrics(self) -> str:
        """Counters in Prometheus text."""
        if (watch := self.swarm.watch) is not None:
            self.counters.sums.update(
                {name: n - self.counters.sums[name] for name, n in watch.counts.items()}
            )
        levels = {
            "requests_running": self.places.taken,
            "requests_waiting": self.places.in_line,
            "nodes_open": len(self.swarm.caller.channels),
        }
        scheduler = self.swarm.caller.scheduler
        return self.counters.text(levels) + ("" if scheduler is None else scheduler.told().prometheus())

    def close(self) -> None:
        """Take no more; texts that are being written go on."""
        self.places.close()


class SwarmDoor(Door):
    """OpenAI's paths before one swarm."""

    def __init__(self, writer: SwarmWriter, most_body: int) -> None:
        super().__init__(writer)
        self.swarm, self.most_body = writer.swarm, most_body

    def application(self, middlewares: Sequence[Any] = ()) -> "Application":
        app = super().application(middlewares)
        app.router.add_get("/ready", self.ready)
        app.router.add_get("/v1/scheduler", self.scheduler)
        return app

    def read(self, body: Json) -> Ask:
        asked = body.get("model", self.writer.model)
        if asked != self.writer.model:
            told = f"the model {str(asked)[:80]!r} does not exist here: ask for {self.writer.model}"
            raise Refusal(404, "invalid_request_error", "model_not_found", told)
        for name in UNKNOWN:
            if body.get(name) and body[name] != HARMLESS.get(name):
                raise BadInput(f"expected no {name}: a swarm does not do that; leave it away")
        lengths = (body.get("max_tokens"), body.get("max_completion_tokens"))
        if "messages" in body and lengths == (None, None):
            body = {**body, "max_tokens": CHAT_TOKENS}
        limits, own = limits_of(body.get(OWN)), self.swarm.caller.guard.required
        if not own.covers(limits.required):
            told = f"privacy {_class(limits.required)} is required, found {_class(own)} here"
            raise Refusal(403, "api_error", "privacy", told)
        ask, course = bounded(super().read(body), limits), COURSE.get()
        if limits.order is not None and course is not None:
            course.bill, course.purse = own_bill(limits.order, self._weights, time.time()), None
        return ask

    @property
    def _weights(self) -> Weights:
        return Weights(digest=self.swarm.model, num_blocks=self.swarm.num_blocks)

    async def models(self, request: "Request") -> "StreamResponse":
        """The one model, with the weights that a caller's own order names."""
        return reply({"object": "list", "data": [model_told(self.swarm.name, [self._weights])]})

    def more(self) -> Json:
        """What came of the order, where the text was paid for."""
        course = COURSE.get()
        return {} if course is None or course.bill is None else {OWN: course.bill.told()}

    async def ready(self, request: "Request") -> "StreamResponse":
        """200 where nodes that let us in hold all blocks, else 503 and why."""
        try:
            swarm = self.swarm
            numbers = swarm.manner.numbers
            await swarm.caller.let_in(swarm.model, 0.0, 1.0, swarm.replicas, numbers)
        except MetaInfError as error:
            return refused(Refusal(503, "api_error", "not_ready", str(error), NO_ROUTE_WAIT_S))
        return await self.health(request)

    async def scheduler(self, request: "Request") -> "StreamResponse":
        """What the scheduler chose and learnt; 404 where there is none."""
        from aiohttp import web

        scheduler = self.swarm.caller.scheduler
        if scheduler is None:
            told = "no scheduler chooses here: start with --choose scheduler"
            return refused(Refusal(404, "invalid_request_error", "no_scheduler", told))
        return web.json_response(scheduler.told().model_dump(mode="json"))


def _class(required: Required) -> str:
    return required.privacy + (f" with {required.keep} blocks" if required.keep else "")


def application(
    swarm: Swarm, told: Serving, billing: Billing | None = None
) -> tuple["Application", SwarmWriter]:
    """The application before a swarm, and the writer to close when it ends. With `billing` the door
    pays for texts whose callers do not."""
    writer = SwarmWriter(swarm, Places(told.places, told.in_line))
    door = SwarmDoor(writer, told.most_body_bytes)
    app = door.application([traced(), guard(told.api_key, told.public), coursed(COURSE, billing)])
    prepare(app, billing)
    return app, writer


def bound(told: Serving) -> socket.socket:
    """The socket to listen on. Raises BadInput."""
    if told.public and told.api_key is None:
        raise BadInput(
            f"expected an API key before listening at {told.host}, found none: give --api-key, or listen "
            "at 127.0.0.1"
        )
    try:
        taken = take(told.host, told.port)
    except OSError as error:
        raise BadInput(f"cannot listen at {told.host}:{told.port}: {error.strerror or error}") from None
    return taken


async def serve(
    caller: Caller,
    folder: Path,
    told: Serving,
    say: Callable[[str], None],
    billing: Billing | None = None,
    manner: Manner | None = None,
) -> None:
    """Answer until SIGTERM or SIGINT; texts that are being written then have `grace_s` to end.

    Raises BadInput where it may not or cannot listen, MissingExtra, DirectoryLost."""
    try:
        context, taken = told.context(), bound(told)
    except BaseException:
        await caller.directory.close()
        raise
    send("metainf-swarm")
    with taken, closing_traces():
        async with Joined(caller, folder, told.name, told.replicas, manner) as swarm:
            if swarm.watch is not None:
                swarm.watch.tell = say
            app, writer = application(swarm, told, billing)
            numbers = swarm.manner.numbers
            try:
                await swarm.caller.let_in(swarm.model, replicas=swarm.replicas, numbers=numbers)
            except NoFeasible as error:
                say(f"no way through the swarm yet: {error}")
            say(f"{swarm.name} ({swarm.model}) through {len(await swarm.caller.look())} nodes")
            if swarm.caller.changes:
                say(f"changes the methods of replicas that obey {swarm.caller.identity.node}")
            await listen(app, taken, writer.close, told.grace_s, context)
