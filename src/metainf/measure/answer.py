"""The bytes of a streamed answer, and when they came -> pieces of text, the server's counts, what is wrong.

Reading is put off until a stream is over: while it runs, a client only notes the time of each read.
"""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

TOLD_CHARACTERS = 300


@dataclass
class Answer:
    """`times_s` holds one time for each piece of text; `error` says why the answer cannot be counted."""

    times_s: list[float] = field(default_factory=list)
    text: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    error: str | None = None


@dataclass
class _Reading:
    pieces: list[tuple[float, str, bool]] = field(default_factory=list)
    usage: Mapping[str, Any] = field(default_factory=dict)
    ended: bool = False
    error: str | None = None


def read_answer(times_s: Sequence[float], reads: Sequence[bytes]) -> Answer:
    """Server-sent events of `/v1/completions`, one `data:` line each; `times_s[i]` is when `reads[i]` came.

    An event's time is that of the read that completes its line. An event with a choice is a piece, even
    with no text yet (half of a character). The last one is none when it holds only the finish reason and the
    pieces before it account for all tokens: some servers send it after the last token.
    """
    body = b"".join(reads)
    payloads, ends, done = _payloads(body)
    values = _values(payloads)
    if values is None or (not values and not done):
        return Answer(error=f"expected server-sent events with JSON, found {told(body)}")
    ups = list(accumulate(len(read) for read in reads))
    last = len(ups) - 1
    found = _Reading(ended=done)
    for value, end in zip(values, ends[: len(values)], strict=True):
        _add(found, value, times_s[min(bisect_left(ups, end), last)])
    return _answer(found)


def told(body: bytes) -> str:
    """The beginning of a body for a message, in one line."""
    text = " ".join(body[: 4 * TOLD_CHARACTERS].decode("utf-8", errors="replace").split())
    return repr(text[:TOLD_CHARACTERS]) if text else "nothing"


def refusal(status: int, body: bytes) -> str:
    """An HTTP error with its body's message: OpenAI's `error.message`, FastAPI's `detail`, or the text."""
    try:
        value = json.loads(body)
    except ValueError:
        return f"HTTP {status}: {told(body)}"
    return f"HTTP {status}: {_message(value)}"


def _message(value: Any) -> str:
    while isinstance(value, Mapping):
        known = (value.get(key) for key in ("error", "message", "detail"))
        inner = next((each for each in known if each), None)
        if inner is None:
            break
        value = inner
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:TOLD_CHARACTERS]


def _payloads(body: bytes) -> tuple[list[bytes], list[int], bool]:
    """What stands after `data:`, where each line ends, and whether `[DONE]` came."""
    payloads, ends, done, at = [], [], False, 0
    for line in body.split(b"\n"):
        at += len(line) + 1
        if not line.startswith(b"data:"):
            continue
        payload = line[5:].strip()
        if payload == b"[DONE]":
            done = True
        elif payload:
            payloads.append(payload)
            ends.append(at)
    return payloads, ends, done


def _values(payloads: list[bytes]) -> list[dict[str, Any]] | None:
    """The events, all in one go, which is quicker than one by one; None where one is no JSON object.

    A last event that is broken off is left out: the stream was cut within it.
    """
    values = _objects(payloads)
    if values is None and len(payloads) > 1:
        return _objects(payloads[:-1])
    return values


def _objects(payloads: list[bytes]) -> list[dict[str, Any]] | None:
    try:
        values = json.loads(b"[" + b",".join(payloads) + b"]")
    except ValueError:
        return None
    whole = len(values) == len(payloads) and all(isinstance(value, dict) for value in values)
    return values if whole else None


def _add(found: _Reading, value: dict[str, Any], time_s: float) -> None:
    if value.get("error"):
        found.error = f"the server wrote: {_message(value['error'])}"
    usage = value.get("usage")
    if isinstance(usage, Mapping):
        found.usage = usage
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, Mapping):
        text, finish = choice.get("text") or "", choice.get("finish_reason")
        found.ended = found.ended or finish is not None
        found.pieces.append((time_s, str(text), finish is not None and not text))


def _answer(found: _Reading) -> Answer:
    pieces, output = found.pieces, _count(found.usage, "completion_tokens")
    if pieces and pieces[-1][2] and (output is None or len(pieces) > output):
        pieces = pieces[:-1]
    details = found.usage.get("prompt_tokens_details")
    error = found.error
    if error is None and not found.ended:
        error = f"the stream ended after {len(pieces)} pieces, without a finish reason or [DONE]"
    if error is None and not pieces:
        error = "the answer holds no text"
    return Answer(
        times_s=[time_s for time_s, _, _ in pieces],
        text="".join(text for _, text, _ in pieces),
        input_tokens=_count(found.usage, "prompt_tokens"),
        output_tokens=output,
        cached_tokens=_count(details, "cached_tokens") if isinstance(details, Mapping) else None,
        error=error,
    )


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
