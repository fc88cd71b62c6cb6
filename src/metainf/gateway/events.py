"""Server-sent events of a completion, as bytes: when the first token is there, how many came, and the usage.

Bytes pass through as they are. Only what comes before the first token is held, so that another endpoint may
still be asked; and only the event with token counts that the caller did not ask for is taken out.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

END = re.compile(rb"\r?\n\r?\n")
TOKEN = re.compile(rb'"(?:content|text|reasoning_content)": ?"(?!")')
FINISHED = re.compile(rb'\[DONE\]|"finish_reason": ?"')
ERROR = re.compile(rb'(?:^|\n)data: ?\{"error"')
DONE = b"[DONE]"
OVER = re.compile(rb"(?:^|\n)data: ?\[DONE\]")
MOST_HELD = 1 << 20


class Garbage(Exception):
    """What came is no stream of a completion; says why."""


@dataclass
class Stream:
    """One stream. `take` gives what may be sent on. Raises Garbage before the first token alone.

    `tokens` counts events with text; `usage` holds what the endpoint counted itself. `whole` tells whether
    the last byte that was sent on ended an event, `finished` whether the endpoint said that it is done,
    `over` whether its very last event was there, after which callers leave, and `failed` whether it said
    that it failed.
    """

    strip_usage: bool = False
    tokens: int = 0
    usage: dict[str, Any] | None = None
    begun: bool = False
    whole: bool = True
    finished: bool = False
    over: bool = False
    failed: bool = False
    _held: bytes = b""
    _rest: bytes = b""
    _parts: list[bytes] = field(default_factory=list)

    def take(self, data: bytes) -> bytes:
        """What of the bytes so far may be sent on."""
        if not self.begun:
            return self._before(data)
        if self.strip_usage:
            return self._stripped(data)
        self._events(data)
        self.whole = not self._rest
        return data

    def end(self) -> bytes:
        """What is left when the endpoint is done."""
        rest, self._rest = self._rest, b""
        if not rest:
            return b""
        self._note(rest)
        self.whole = False
        return rest if self.strip_usage else b""

    def _before(self, data: bytes) -> bytes:
        self._held += data
        if len(self._held) > MOST_HELD:
            raise Garbage("a megabyte came without a token")
        at = 0
        for found in END.finditer(self._held):
            event, at = self._held[at : found.end()], found.end()
            self._parts.append(event)
            if _carries(event):
                self.begun = True
                break
        self._held = self._held[at:]
        if not self.begun:
            return b""
        first, held = b"".join(self._parts), self._held
        self._parts, self._held = [], b""
        self._note(first)
        self.tokens = max(self.tokens, 1)
        return first + (self.take(held) if held else b"")

    def _stripped(self, data: bytes) -> bytes:
        if not self._rest and b'"usage"' not in data and data.endswith(b"\n\n"):
            self._note(data)
            self.whole = True
            return data
        return b"".join(self._events(data))

    def _events(self, data: bytes) -> list[bytes]:
        """The whole events that came, without those that hold nothing but the usage."""
        self._rest += data
        kept, at = [], 0
        for found in END.finditer(self._rest):
            event, at = self._rest[at : found.end()], found.end()
            if not self._note(event):
                kept.append(event)
        self._rest = self._rest[at:]
        return kept

    def _note(self, data: bytes) -> bool:
        """Count; True for an event that holds nothing but the usage."""
        self.tokens += len(TOKEN.findall(data))
        self.finished = self.finished or FINISHED.search(data) is not None
        self.over = self.over or OVER.search(data) is not None
        self.failed = self.failed or ERROR.search(data) is not None
        if b'"usage"' not in data:
            return False
        only = False
        for event in END.split(data):
            said = _json(event)
            if isinstance(said, dict) and isinstance(said.get("usage"), dict):
                self.usage, only = said["usage"], not said.get("choices")
        return only


def _carries(event: bytes) -> bool:
    """Whether an event brings a token, or the end without any. Raises Garbage for what no endpoint says."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    text = b"".join(lines)
    if not text:
        return False
    if text == DONE:
        return True
    said = _json(event)
    if not isinstance(said, dict):
        raise Garbage(f"an event that holds no JSON: {text[:80]!r}")
    if said.get("error"):
        raise Garbage(f"an error in place of a token: {str(said['error'])[:200]}")
    choices = said.get("choices")
    if not isinstance(choices, list):
        raise Garbage(f"an event without choices: {text[:80]!r}")
    return any(isinstance(each, dict) and _says(each) for each in choices)


def _says(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    said = [value for name, value in delta.items() if name != "role"] if isinstance(delta, dict) else []
    return any([choice.get("text"), choice.get("finish_reason"), *said])


def _json(event: bytes) -> Any:
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    try:
        return from_json(b"\n".join(lines))
    except ValueError:
        return None
