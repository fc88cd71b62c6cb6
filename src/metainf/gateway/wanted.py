"""What a request asks for: the model, about how many tokens, and the caller's limits.

Limits come as headers (`X-MetaInf-Max-TTFT-S: 0.5`) or as a field `metainf` of the body
(`{"max_ttft_s": 0.5}`), which goes no further. Both may be given; a field wins. A limit that nobody knows is
refused, for a limit that is misspelt and passed over is worse.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json, to_json

from metainf.domain import BadInput, UnknownName
from metainf.gateway.words import AIMS, Endpoint, Wanted

PREFIX = "x-metainf-"
CHARACTERS_PER_TOKEN = 4.0
TOKENS_PER_PICTURE = 500.0
NUMBERS = ("max_ttft_s", "max_tpot_s", "max_e2e_s", "max_usd", "deadline_s", "confidence")
FIELDS = (*NUMBERS, "aim", "strict")


@dataclass(frozen=True)
class Asked:
    """One request. `characters` of the prompt (tokens where it is given as such), and the most tokens that
    may be written, None where it does not say. `body` is what it said, without the limits."""

    model: str
    stream: bool
    input_tokens: float
    most_tokens: float | None
    wants_usage: bool
    body: dict[str, Any]
    wanted: Wanted


def read_asked(text: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Asked:
    """A request as it came. Raises BadInput and UnknownName."""
    try:
        body = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise BadInput(f"expected a body of JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        raise BadInput('expected an object with the name of a "model", found none')
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise BadInput(f"expected true or false for stream, found {stream!r:.40}")
    wanted = read_wanted(headers, body.pop("metainf", None))
    options = body.get("stream_options")
    return Asked(
        model=body["model"],
        stream=stream,
        input_tokens=max(1.0, _input_tokens(body)),
        most_tokens=_most_tokens(body),
        wants_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        body=body,
        wanted=wanted,
    )


def read_wanted(headers: Iterable[tuple[bytes, bytes]], field: Any = None) -> Wanted:
    """The limits of headers (names in lower case) and of the field. Raises BadInput and UnknownName."""
    found: dict[str, Any] = {}
    for name, value in headers:
        if name.startswith(b"x-metainf-"):
            word = name.decode("latin-1").removeprefix(PREFIX).replace("-", "_")
            found[_known(word)] = _from_header(word, value.decode("latin-1").strip())
    if field is not None:
        if not isinstance(field, dict):
            raise BadInput(f"expected an object of limits as metainf, found {field!r:.40}")
        found |= {_known(str(word)): value for word, value in field.items() if value is not None}
    return replace(Wanted(), **{word: _checked(word, value) for word, value in found.items()})


def payload(asked: Asked, endpoint: Endpoint, with_usage: bool) -> bytes:
    """The body for one endpoint: its own name of the model, and the wish for token counts."""
    body = asked.body | {"model": endpoint.served_as}
    if asked.stream and with_usage and not asked.wants_usage:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return to_json(body)


def _known(word: str) -> str:
    if word not in FIELDS:
        raise UnknownName("limit", word, FIELDS)
    return word


def _from_header(word: str, value: str) -> Any:
    if word == "strict":
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    if word not in NUMBERS:
        return value.lower()
    try:
        return float(value)
    except ValueError:
        return value


def _checked(word: str, value: Any) -> Any:
    if word == "aim":
        if value not in AIMS:
            raise UnknownName("aim", str(value)[:40], AIMS)
        return value
    if word == "strict":
        if not isinstance(value, bool):
            raise BadInput(f"expected true or false for strict, found {value!r:.40}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0 or (word == "confidence" and value >= 1):
        range_ = "a number between 0 and 1" if word == "confidence" else "a number above 0"
        raise BadInput(f"expected {range_} for {word}, found {value!r:.40}")
    return float(value)


def _most_tokens(body: Mapping[str, Any]) -> float | None:
    said = body.get("max_completion_tokens") or body.get("max_tokens")
    number = isinstance(said, int | float) and not isinstance(said, bool) and 0 < said < 1e9
    return float(said) * _choices(body) if number and said is not None else None


def _choices(body: Mapping[str, Any]) -> int:
    said = body.get("n")
    return said if isinstance(said, int) and 0 < said < 1000 else 1


def _input_tokens(body: Mapping[str, Any]) -> float:
    """About how many tokens the prompt has; token ids count one each."""
    messages = body.get("messages")
    if isinstance(messages, list):
        return sum(_said(each.get("content")) for each in messages if isinstance(each, dict))
    return _said(body.get("prompt"))


def _said(value: Any) -> float:
    if isinstance(value, str):
        return len(value) / CHARACTERS_PER_TOKEN
    if isinstance(value, int):
        return 1.0
    if isinstance(value, list):
        if value and isinstance(value[0], int):
            return float(len(value))
        return sum(_said(each) for each in value)
    if isinstance(value, dict):
        return _said(value["text"]) if "text" in value else TOKENS_PER_PICTURE
    return 0.0
