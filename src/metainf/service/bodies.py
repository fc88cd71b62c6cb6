"""Bodies of requests: read within a limit and a time, and parsed by the words themselves."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import FailFast, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from metainf.api.problems import refusal
from metainf.domain import BadInput, Frozen, Record
from metainf.domain.base import describe

F = TypeVar("F", bound=Frozen)
JSON = "application/json"
MOST_AT_ONCE = 10_000
DROPPED = 4 * 1024 * 1024
RECORDS = TypeAdapter(Annotated[tuple[Record, ...], FailFast()])


async def pieces(request: Request, most: int, timeout_s: float) -> AsyncIterator[bytes]:
    """The body piece by piece. Refused with 413 beyond `most` bytes, 408 where it does not come in time.

    A body that is a little too large is taken in and dropped, for whoever sends it reads no answer before.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and (len(told) > 20 or int(told) > most + DROPPED):
        raise too_large(most)
    found, more = 0, True
    while more and found <= most + DROPPED:
        try:
            async with asyncio.timeout(timeout_s):
                message = await request.receive()
        except TimeoutError:
            raise refusal(
                "too-slow", 408, "The body did not come", f"expected more of the body within {timeout_s:g} s"
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        found += len(piece)
        if found <= most:
            yield piece
    if found > most:
        raise too_large(most)


def too_large(most: int) -> Exception:
    """The refusal of a body beyond the limit."""
    return refusal("too-large", 413, "Too large", f"expected a body of at most {most:,} bytes, found more")


async def body(request: Request, kind: str, most: int, timeout_s: float) -> bytes:
    """A whole body of a media type; refused with 415 for any other."""
    require_type(request, kind)
    return b"".join([piece async for piece in pieces(request, most, timeout_s)])


def require_type(request: Request, kind: str) -> None:
    """Refuse a body of another media type with 415: a page in a browser cannot send this one unasked."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind:
        told = found[:60] or "none"
        raise refusal("media-type", 415, "Another media type", f"expected content-type {kind}, found {told}")


async def read_text(request: Request) -> bytes:
    """A JSON body as it came."""
    settings = request.app.state.service.settings
    return await body(request, JSON, settings.most_body, settings.body_timeout_s)


async def read(request: Request, kind: type[F]) -> F:
    """One value from a JSON body. Raises BadInput naming each wrong field."""
    return kind.parse(await read_text(request))


async def read_records(request: Request) -> tuple[Record, ...]:
    """Records from a JSON list. BadInput naming the first wrong one."""
    settings = request.app.state.service.settings
    text = await body(request, JSON, settings.most_records, settings.body_timeout_s)
    try:
        found = RECORDS.validate_json(text)
    except ValidationError as error:
        raise BadInput(f"expected a list of records: {describe(error)}") from None
    if not 1 <= len(found) <= MOST_AT_ONCE:
        raise BadInput(f"expected 1 to {MOST_AT_ONCE:,} records, found {len(found):,}: import a file instead")
    return found


def described(schema: dict[str, Any] | str, examples: dict[str, Any], kind: str = JSON) -> dict[str, Any]:
    """The body of a route for the OpenAPI document; `schema` by name stands among the components."""
    told = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    shown = {name: {"value": value} for name, value in examples.items()}
    content = {"schema": told} | ({"examples": shown} if shown else {})
    return {"requestBody": {"required": True, "content": {kind: content}}}
