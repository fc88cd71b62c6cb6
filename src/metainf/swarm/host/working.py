"""A consumer of the queue that answers OpenAI's requests, with a swarm's sessions or whatever a door has
behind it, and announces itself to those who ask."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from metainf.domain import BadInput
from metainf.hosts.asked import Refusal, error_of
from metainf.hosts.tracing import CURRENT, begun
from metainf.swarm.broker.consumer import Consumer, Handle, TryAgain
from metainf.swarm.broker.members import announcing, bucket
from metainf.swarm.broker.sizes import size_in
from metainf.swarm.broker.streams import MEMBER_S
from metainf.swarm.broker.words import LONGEST_S, MOST_BODY, Job, Member
from metainf.swarm.host.generating import Course
from metainf.swarm.host.limits import OWN
from metainf.swarm.host.paying import Bill
from metainf.swarm.net.ending import ended

WEIGHT = 0.2
AGAIN = (429, 503)
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""The JSON of OpenAI's answer to the JSON of a request. Raises Refusal, BadInput."""


def answering(answer: Answer, course: ContextVar[Course | None]) -> Handle:
    """A handler of jobs. A job whose body has an order under `metainf` is worked for money: the answer has
    the claim, which its payer settles."""

    async def handle(job: Job, attempt: int) -> str:
        try:
            body = json.loads(job.body)
            if not isinstance(body, dict) or not ("messages" in body or "prompt" in body):
                raise BadInput("expected a JSON object with messages or prompt")
            own = body.pop(OWN, None) or {}
            order = own.pop("order", None) if isinstance(own, dict) else None
            bill = Bill(order) if isinstance(order, str) else None
            if own:
                body[OWN] = own  # its limits
            mark = course.set(Course(bill=bill))
            try:
                made = await answer({**body, "stream": False})
            finally:
                course.reset(mark)
        except Refusal as refusal:
            if refusal.status in AGAIN:
                raise TryAgain(str(refusal)) from None
            return json.dumps(refusal.body)
        except (BadInput, ValueError, TypeError, RecursionError) as error:
            return json.dumps(error_of(str(error), "invalid_request_error"))
        told = json.dumps(made if bill is None else made | {OWN: bill.told()})
        if len(told) > MOST_BODY:
            return json.dumps(error_of(f"the answer is longer than {MOST_BODY} characters", "api_error"))
        return told

    return handle


class Worker:
    """A consumer that announces itself. `word` begins with the time that a request is expected to take, and
    tells from then on what they take. Use as an asynchronous context."""

    def __init__(self, servers: str, word: Member, handle: Handle, lifetime_s: float = MEMBER_S) -> None:
        self.word, self.handle, self.lifetime_s = word, handle, lifetime_s
        self.consumer = Consumer(servers, word.group, self._timed, word.slots, word.name)
        self._announcing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Worker":
        """Raises BrokerLost, MissingExtra."""
        consumer = await self.consumer.__aenter__()

        def opened() -> Awaitable[Any]:
            return bucket(consumer.stream, consumer.replicas, self.lifetime_s)

        doing = announcing(await opened(), opened, lambda: self.word, self.lifetime_s / 3)
        self._announcing = asyncio.create_task(doing)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take the announcement back, finish what was begun."""
        failures = await ended(self._announcing)
        await self.consumer.__aexit__()
        for failure in failures:
            raise failure

    async def _timed(self, job: Job, attempt: int) -> str:
        """Work on a job as a span of its trace, and remember how long it took."""
        about: dict[str, str | int | float] = {
            "group": job.group,
            "consumer": self.word.name,
            "attempt": attempt,
        }
        mark, why, since_s = begun("swarm.job", CURRENT.get(), about), "given up", time.monotonic()
        before = CURRENT.set(mark.trace)
        try:
            body = await self.handle(job, attempt)
            why = ""
        except Exception as error:
            why = str(error)
            raise
        finally:
            CURRENT.reset(before)
            mark.end(why or None)
        took = max(1e-3, time.monotonic() - since_s)
        size = size_in(job.body) or self.word.request_size
        means = {
            "request_s": min(self.word.request_s * (1 - WEIGHT) + took * WEIGHT, LONGEST_S),
            "request_size": self.word.request_size * (1 - WEIGHT) + size * WEIGHT,
        }
        self.word = self.word.model_copy(update=means)
        return body
