"""How what came of a job looks over HTTP."""

import json
from typing import TYPE_CHECKING

from metainf.domain import NoFeasible
from metainf.hosts.asked import Json, Refusal
from metainf.swarm.broker.agent import TooLate
from metainf.swarm.broker.streams import BrokerLost, Crowded
from metainf.swarm.net.hiring import NOT_PAID, ORDER_USED

if TYPE_CHECKING:
    from aiohttp.web import Request, StreamResponse

INVALID, NOT_SERVED = "invalid", "not_served"


def status_of(error: Json) -> int:
    """Of an error that a worker answered with."""
    if error.get("code") in (ORDER_USED, NOT_PAID):
        return 402
    return 400 if error.get("type") == "invalid_request_error" else 502


def reason_of(error: Json) -> str:
    """A word for counting: one of few, whatever a worker says."""
    if error.get("code") in (ORDER_USED, NOT_PAID):
        return str(error["code"])
    return INVALID if error.get("type") == "invalid_request_error" else NOT_SERVED


def refusal_of(error: Exception) -> Refusal:
    """Why a request is not answered, in OpenAI's words."""
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


async def at_once(request: "Request", made: Json) -> "StreamResponse":
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
