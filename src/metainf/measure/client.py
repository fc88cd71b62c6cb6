"""The measuring client: one request goes to an OpenAI-compatible server, one timing comes back.

While a stream runs the client notes the time of each read and nothing else; `measure.answer` reads the bytes
when it is over. What goes wrong is told in the timing's `error`; only cancelling raises.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from metainf.domain import MissingExtra
from metainf.measure.answer import TOLD_CHARACTERS, Answer, read_answer, refusal
from metainf.measure.words import Endpoint, Request, Timing

if TYPE_CHECKING:
    import aiohttp

KEPT_IDLE_S = 2.0
EXTRAS = ("ignore_eos", "stream_options")
REFUSED = (400, 422)
NO_STATUS, HUNG_UP = 0, -1
SHOWN_BYTES = 16384
SLACK_BYTES, PIECE_BYTES = 1 << 20, 1 << 14


class Client:
    """Connections to one endpoint, open while entered. `dropped` names the extras that it refused.

    `timeout_s` bounds a whole answer. `now` gives seconds; timings count from the `since` of each `ask`.
    Connections are used again (`reuses`) until the server hangs up on one, as some do without saying so after
    each answer; from then on each request has its own. Idle ones are closed before the usual five seconds
    after which servers close them.
    """

    def __init__(
        self, endpoint: Endpoint, timeout_s: float = 600.0, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.endpoint, self.timeout_s, self.now = endpoint, timeout_s, now
        self.dropped: frozenset[str] = frozenset()
        self._url = f"{endpoint.base_url.rstrip('/')}/v1/completions"
        self.reuses = True
        self._sessions: tuple[aiohttp.ClientSession, ...] = ()

    async def __aenter__(self) -> Self:
        try:
            import aiohttp
        except ImportError:
            raise MissingExtra("sending requests to a server", "measure") from None
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.endpoint.api_key:
            headers["Authorization"] = f"Bearer {self.endpoint.api_key}"
        self._sessions = tuple(
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
            )
            for connector in (
                aiohttp.TCPConnector(limit=0, force_close=True),
                aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_IDLE_S),
            )
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions:
            await session.close()

    async def ask(self, request: Request, since: float = 0.0) -> Timing:
        """Send one request and wait for the end of its answer.

        Sent a second time where the server refuses the extras (then without them, and with its own time of
        sending), and where it hangs up on a used connection before it answers: the wait for that counts.
        """
        left_out, reused = self.dropped, self.reuses
        timing, status = await self._once(request, since, left_out)
        if status == HUNG_UP and reused:
            self.reuses = False
            again, status = await self._once(request, since, left_out)
            timing = replace(again, sent_s=timing.sent_s) if status > 0 else timing
        if status not in REFUSED:
            return timing
        dropped = left_out | self.dropped | _named(timing.error or "")
        if dropped == left_out:
            return timing
        again, status = await self._once(request, since, dropped)
        if status == 200:
            self.dropped |= dropped
            return again
        return timing

    async def _once(self, request: Request, since: float, dropped: frozenset[str]) -> tuple[Timing, int]:
        """A timing, and the HTTP status; NO_STATUS or HUNG_UP where none came."""
        import aiohttp

        if not self._sessions:
            raise RuntimeError("expected `async with Client(...)`, found one that was not entered")
        body = json.dumps(self._body(request, dropped)).encode()
        times: list[float] = []
        reads: list[bytes] = []
        status, wrong, size = NO_STATUS, None, 0
        most = SLACK_BYTES + PIECE_BYTES * request.output_tokens
        sent = self.now()
        try:
            async with (
                asyncio.timeout(self.timeout_s),  # one timer for each answer; aiohttp's own act on each read
                self._sessions[self.reuses].post(self._url, data=body) as response,
            ):
                status = response.status
                if status == 200:
                    read, now = response.content.readany, self.now
                    while data := await read():
                        times.append(now())
                        reads.append(data)
                        size += len(data)
                        if size > most:
                            raise ValueError(f"more than {most} bytes for {request.output_tokens} tokens")
                else:
                    wrong = refusal(status, await response.content.read(SHOWN_BYTES))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            wrong = self._told(error)
            hung_up = isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
            if hung_up and status == NO_STATUS and not isinstance(error, aiohttp.ClientConnectorError):
                status = HUNG_UP
        answer = Answer(error=wrong) if status != 200 else _outcome(times, reads, wrong)
        whole = answer.error is None
        timing = Timing(
            sent_s=sent - since,
            ended_s=(answer.times_s[-1] if whole else self.now()) - since,
            chunk_s=tuple(at - since for at in answer.times_s),
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            cached_tokens=answer.cached_tokens,
            text=answer.text,
            error=answer.error,
        )
        return timing, status

    def _body(self, request: Request, dropped: frozenset[str]) -> dict[str, Any]:
        body = {
            "model": self.endpoint.model,
            "prompt": request.prompt,
            "max_tokens": request.output_tokens,
            "temperature": 0,
            "stream": True,
            "ignore_eos": True,
            "stream_options": {"include_usage": True},
        }
        return {name: value for name, value in body.items() if name not in dropped}

    def _told(self, error: Exception) -> str:
        """What broke the exchange, in words."""
        import aiohttp

        if isinstance(error, TimeoutError):
            return f"no whole answer within {self.timeout_s:g} s"
        if isinstance(error, aiohttp.ClientConnectorError):
            return (
                f"could not connect to {self.endpoint.base_url}: {error.os_error.strerror or error.os_error}"
            )
        if isinstance(error, aiohttp.ClientPayloadError):
            return "the connection broke within the stream"
        said = str(error) or type(error).__name__
        return f"the connection broke: {said[:TOLD_CHARACTERS]}"


def _outcome(times: list[float], reads: list[bytes], wrong: str | None) -> Answer:
    """A stream that broke after its own end is whole; another keeps what came, and both reasons."""
    answer = read_answer(times, reads) if reads or wrong is None else Answer(error="")
    if wrong is not None and answer.error is not None:
        pieces = len(answer.times_s)
        answer.error = f"{wrong} (after {pieces} piece{'' if pieces == 1 else 's'} of text)"
    return answer


def _named(message: str) -> frozenset[str]:
    """The extras that a refusal names; all of them where it names none."""
    return frozenset(name for name in EXTRAS if name in message) or frozenset(EXTRAS)
