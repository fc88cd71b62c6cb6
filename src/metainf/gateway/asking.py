"""One attempt at one endpoint: the request goes there, and what comes back goes on to the caller as it comes.

Nothing reaches the caller before the first token is here, so that until then another endpoint can be asked.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from metainf.domain import MissingExtra
from metainf.gateway.answering import Answering, Headers, error_of
from metainf.gateway.events import Garbage, Stream
from metainf.gateway.words import Result

try:
    import aiohttp
except ImportError:
    raise MissingExtra("the gateway", "gateway") from None

if TYPE_CHECKING:
    from collections.abc import Mapping

SLACK = 0.1
"""The share of the longest wait for a sign of life within which the clock is not wound again."""
TICK_S = 0.02
"""How far a timer and the clock may be apart."""
MOST_ANSWER = 64 << 20
MOST_REFUSAL = 1 << 20
CONNECT_S = 2.0
KEPT_IDLE_S = 2.0
"""Idle connections are dropped before the usual five seconds after which servers drop them."""
NOT_OURS = (401, 403, 404, 405, 407, 408)
"""Statuses that are the endpoint's fault and not the caller's, who sees neither its key nor its paths."""
STREAMED = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))


@dataclass(frozen=True)
class Letter:
    """What is sent: where, with which headers, and whether the answer streams. `stall_s` bounds each wait
    for a sign of life, `until_s` (on the clock) all of it; `strip_usage` takes out unwanted token counts."""

    url: str
    headers: "Mapping[str, str]"
    body: bytes
    stream: bool
    strip_usage: bool
    stall_s: float
    until_s: float


@dataclass
class Attempt:
    """How it went. Seconds from `began_s`; `why` names the kind of a failure, `detail` tells it.

    `sent_s` is how long after the first token's arrival it had been handed on; `broke_at_once` tells that a
    connection broke before anything came, as kept ones may; `whole` that the caller got whole events; `over`
    that it got all there is, so that its leaving now takes nothing back.
    """

    began_s: float
    result: Result = "failed"
    why: str = ""
    detail: str = ""
    status: int = 0
    wait_s: float | None = None
    ttft_s: float | None = None
    last_s: float | None = None
    ended_s: float = 0.0
    sent_s: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    broke_at_once: bool = False
    whole: bool = True
    sending: bool = False
    over: bool = False

    @property
    def tpot_s(self) -> float | None:
        """Seconds for each token after the first, where they came one by one."""
        if self.ttft_s is None or self.last_s is None or (self.output_tokens or 0) < 2:
            return None
        return (self.last_s - self.ttft_s) / ((self.output_tokens or 2) - 1) or None


class Broken(Exception):
    """The attempt failed: a word for the kind of failure, and a sentence."""

    def __init__(self, why: str, detail: str) -> None:
        self.why, self.detail = why, detail
        super().__init__(detail)


def session() -> aiohttp.ClientSession:
    """Connections to all endpoints."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_IDLE_S)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
        headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
    )


async def attempt(
    connections: aiohttp.ClientSession, letter: Letter, answering: Answering, told: Headers
) -> Attempt:
    """Ask one endpoint; `told` are headers for the caller. Cancelling closes the connection."""
    now = time.perf_counter
    found = Attempt(began_s=now())
    try:
        async with asyncio.timeout(None) as timer:
            _wind(timer, letter, now())
            async with connections.post(
                letter.url, data=letter.body, headers=letter.headers, allow_redirects=False
            ) as response:
                found.status = response.status
                await _read(response, letter, answering, told, (found, timer))
    except TimeoutError as error:
        late = now() >= letter.until_s - TICK_S
        if found.sending and not late:  # the caller does not take what is there
            found.result = "left"
        found.why = "deadline" if late else "connect" if isinstance(error, aiohttp.ClientError) else "stall"
        found.detail = "the deadline has passed" if late else f"nothing came for {letter.stall_s:.3g} s"
    except asyncio.CancelledError:
        if not found.over:
            raise
        found.result = "ok"
    except Broken as error:
        found.why, found.detail = error.why, error.detail
    except Garbage as error:
        found.why, found.detail = "garbage", str(error)
    except aiohttp.ClientConnectorError as error:
        found.why, found.detail = "connect", f"cannot connect: {error.os_error.strerror or error.os_error}"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        found.broke_at_once = found.status == 0
        found.why, found.detail = "broke", f"the connection broke: {str(error) or type(error).__name__}"[:300]
    finally:
        found.ended_s = now() - found.began_s
    return found


def _wind(timer: asyncio.Timeout, letter: Letter, now_s: float) -> None:
    """Give the endpoint time for its next sign of life."""
    wait_s = min((1 + SLACK) * letter.stall_s, letter.until_s - now_s)
    timer.reschedule(asyncio.get_running_loop().time() + wait_s)


async def _read(
    response: aiohttp.ClientResponse,
    letter: Letter,
    answering: Answering,
    told: Headers,
    state: tuple[Attempt, asyncio.Timeout],
) -> None:
    found, _ = state
    status = response.status
    if status == 429:
        found.result, found.why, found.detail = "busy", "busy", "HTTP 429"
        found.wait_s = _seconds(response.headers.get("retry-after"))
        return
    if 400 <= status < 500 and status not in NOT_OURS:
        text = await response.content.read(MOST_REFUSAL)
        found.result, found.why = "refused", "refused"
        found.detail = f"HTTP {status}: {text[:300]!r}"
        kind = response.headers.get("content-type", "application/json").encode()
        await answering.whole(status, text, [*told, (b"content-type", kind)])
        return
    if status != 200:
        said = await response.content.read(300)
        raise Broken(f"status {status}", f"HTTP {status}: {said.decode(errors='replace')}")
    if letter.stream:
        await _relay(response, letter, answering, told, state)
    else:
        await _whole(response, letter, answering, told, found)


async def _whole(
    response: aiohttp.ClientResponse, letter: Letter, answering: Answering, told: Headers, found: Attempt
) -> None:
    """An answer in one piece, read whole and looked at before it goes on."""
    parts, size = [], 0
    async for data in response.content.iter_any():
        parts.append(data)
        size += len(data)
        if size > MOST_ANSWER:
            raise Broken("garbage", f"an answer of more than {MOST_ANSWER >> 20} MiB")
    text = b"".join(parts)
    try:
        said = from_json(text)
    except ValueError:
        raise Broken("garbage", f"an answer that is no JSON: {text[:80]!r}") from None
    if not isinstance(said, dict) or not isinstance(said.get("choices"), list):
        raise Broken("garbage", f"an answer without choices: {text[:80]!r}")
    _count(found, said.get("usage"))
    arrived_s = time.perf_counter()
    found.result, found.over = "ok", True
    await answering.whole(200, text, [*told, (b"content-type", b"application/json")])
    found.sent_s = time.perf_counter() - arrived_s


async def _relay(
    response: aiohttp.ClientResponse,
    letter: Letter,
    answering: Answering,
    told: Headers,
    state: tuple[Attempt, asyncio.Timeout],
) -> None:
    """A stream, piece by piece."""
    found, timer = state
    stream, now, wound_s = Stream(letter.strip_usage), time.perf_counter, 0.0
    try:
        while data := await response.content.readany():
            arrived_s, tokens = now(), stream.tokens
            out = stream.take(data)
            if stream.tokens > tokens:
                found.last_s = arrived_s - found.began_s
            if out:
                found.sending = True
                if not answering.begun:
                    found.ttft_s = arrived_s - found.began_s
                    await answering.start(200, [*told, *STREAMED])
                    await answering.piece(out)
                    found.sent_s = now() - arrived_s
                else:
                    await answering.piece(out)
                found.sending, found.over = False, stream.over and stream.whole and not stream.failed
            if arrived_s > wound_s:
                wound_s = arrived_s + SLACK * letter.stall_s
                _wind(timer, letter, arrived_s)
    except aiohttp.ClientError:
        if not stream.finished:
            raise
    finally:
        found.output_tokens, found.whole = stream.tokens, stream.whole
        _count(found, stream.usage)
    if rest := stream.end():
        await answering.piece(rest)
        found.whole = False
    if not stream.begun:
        raise Broken("unfinished", "the stream ended before the first token")
    if stream.failed:
        raise Broken("error", "the endpoint said that it failed, in the middle of its stream")
    if not stream.finished:
        raise Broken("unfinished", f"the stream ended early, after {stream.tokens} tokens")
    if not stream.whole:
        raise Broken("garbage", "the stream ended within an event")
    found.result = "ok"
    await answering.end()


async def break_off(answering: Answering, found: Attempt) -> None:
    """Tell a caller who has tokens already that no more come."""
    text = to_json(error_of(f"the endpoint broke off: {found.detail}", "upstream_error", found.why))
    await answering.piece(b"data: " + text + b"\n\n")
    await answering.end()


def _count(found: Attempt, usage: Any) -> None:
    """The endpoint's own counts, where it gives them."""
    if not isinstance(usage, dict):
        return
    read, wrote = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(read, int) and read >= 0:
        found.input_tokens = read
    if isinstance(wrote, int) and wrote >= 0:
        found.output_tokens = wrote


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else min(max(float(text), 0.0), 3600.0)
    except ValueError:
        return None
