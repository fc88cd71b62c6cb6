"""The caller's side of one request: what is sent, in ASGI's words, and whether anything was."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

from pydantic_core import to_json
from starlette.types import Receive, Send

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


class Answering:
    """One answer. `begun` once its head has left; then nobody else can be asked any more."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def start(self, status: int, headers: Headers) -> None:
        """The head."""
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def piece(self, data: bytes) -> None:
        """Some of the body, at once."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """The last of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, data: bytes, headers: Headers) -> None:
        """An answer in one piece."""
        await self.start(status, [*headers, (b"content-length", str(len(data)).encode())])
        await self.end(data)

    async def refuse(self, status: int, message: str, kind: str, code: str, headers: Headers = ()) -> None:
        """An error as clients of OpenAI's API read it."""
        await self.whole(status, to_json(error_of(message, kind, code)), [JSON, *headers])


def error_of(message: str, kind: str, code: str) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "code": code, "param": None}}


async def gone(receive: Receive) -> None:
    """Returns when the caller has gone away."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        await asyncio.sleep(0)
