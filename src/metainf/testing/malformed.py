"""Requests that are wrong, one after another, from a seed: what a service must refuse without harm.

Every one is wrong for certain: a question or record that was spoilt by chance is left out where it can still
be read.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from metainf.api.asking import Asked, PredictAsked, SizeAsked
from metainf.domain import BadInput, Frozen, Record

JSON = "application/json"
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, -1e308, 2**70, "", " ", "\x00", "💥" * 50, "x" * 5000, [], {}, [[]],
    {"kind": "x"}, "NaN", ["H100"] * 70, {"name": 1}, "../../etc/passwd", "'; DROP TABLE x; --",
)  # fmt: skip
QUERIES = (
    "limit=-1", "limit=100000", "limit=x", "after=-5", "after=99999999999999999999", "status=maybe",
    "since=yesterday", "since=2025-13-45x", "strange=1", "source=" + "x" * 300, "limit=%00", "until=%ff%fe",
)  # fmt: skip
PATHS = (
    "/", "/v2/select", "/v1/", "/v1/select/", "/v1/models/", "/v1/models/nobody", "/v1/hardware/%00",
    "/v1/records/b2:zz", "/v1/records/%2e%2e%2f", "/v1/imports/0", "/v1/imports/0123456789abcdef/events",
    "/v1/export/exe", "/.env", "/v1/keys/" + "x" * 500,
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request that is wrong."""

    method: str
    path: str
    content_type: str
    body: bytes


def malformed(
    seed: int, questions: dict[str, dict[str, Any]], records: list[dict[str, Any]]
) -> Iterator[Request]:
    """Wrong requests without end. `questions`: good bodies by path; `records`: good records."""
    rng = random.Random(seed)
    kinds: dict[str, type[Frozen]] = {
        "/v1/select": Asked, "/v1/size": SizeAsked, "/v1/predict": PredictAsked, "/v1/explain": PredictAsked,
    }  # fmt: skip
    while True:
        way = rng.random()
        if way < 0.06:
            yield Request("GET", rng.choice(PATHS[1:]), JSON, b"")
        elif way < 0.12:
            yield Request("GET", f"/v1/records?{rng.choice(QUERIES)}", JSON, b"")
        elif way < 0.16:
            yield Request(rng.choice(("PUT", "PATCH", "DELETE", "BREW")), "/v1/select", JSON, b"{}")
        elif way < 0.20:
            path = rng.choice(list(questions))
            yield Request("POST", path, "text/plain", json.dumps(questions[path]).encode())
        elif way < 0.25:
            body = rng.choice((b"[" * 20_000, b'{"a":' * 9000, b"\xff\xfe\x00", b"", b"nul", b"1" * 5000))
            yield Request("POST", rng.choice([*questions, "/v1/records"]), JSON, body)
        elif way < 0.75:
            path = rng.choice(list(questions))
            text = spoilt(rng, questions[path])
            if not readable(kinds[path], text):
                yield Request("POST", path, JSON, text)
        else:
            text = spoilt(rng, rng.choice(records))
            if not readable(Record, text):
                yield Request("POST", "/v1/records", JSON, b"[" + text + b"]")


def spoilt(rng: random.Random, good: dict[str, Any]) -> bytes:
    """A good body with one thing wrong: a value, a key, a byte, or an end too early."""
    text = json.dumps(good).encode()
    way = rng.random()
    if way < 0.15:
        return text[: rng.randrange(len(text))]
    if way < 0.35:
        place = rng.randrange(len(text))
        return text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :]
    changed = json.loads(text)
    where = rng.choice(_containers(changed))
    keys = list(where) if isinstance(where, dict) else list(range(len(where)))
    if not keys or way < 0.5:
        if isinstance(where, dict):
            where[rng.choice(("strange", "", "__class__", "\u202e"))] = rng.choice(STRANGE)
        else:
            where.append(rng.choice(STRANGE))
    elif way < 0.6 and isinstance(where, dict):
        del where[rng.choice(keys)]
    else:
        where[rng.choice(keys)] = rng.choice(STRANGE)
    return json.dumps(changed).encode()


def readable(kind: type[Frozen], text: bytes) -> bool:
    """Whether a text still is a value of its kind."""
    try:
        kind.parse(text)
    except BadInput:
        return False
    return True


def _containers(value: Any) -> list[Any]:
    if not isinstance(value, dict | list):
        return []
    parts = value.values() if isinstance(value, dict) else value
    return [value, *(inner for part in parts for inner in _containers(part))]
