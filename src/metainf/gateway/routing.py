"""One request from arrival to outcome: choose, ask, ask the next where that fails, keep what was seen."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from metainf.gateway.answering import Answering, Headers
from metainf.gateway.asking import Attempt, Letter, attempt, break_off
from metainf.gateway.board import Board, Ticket
from metainf.gateway.keeping import Outcome
from metainf.gateway.observing import RouteGauges
from metainf.gateway.wanted import Asked, payload
from metainf.gateway.words import Endpoint, Option, Ranking, Seen, Size, Wanted

PATIENCE, LEAST_STALL_S = 5.0, 3.0
"""An endpoint stalls when it takes so many times the time to a first token that 1 in 100 takes, where another
can be asked then."""


@dataclass(frozen=True)
class Manners:
    """How requests are treated. Seconds: the longest wait for a sign of life, and for the whole answer."""

    attempts: int = 3
    stall_s: float = 30.0
    deadline_s: float = 600.0


@dataclass
class Router:
    """What a request needs. `keep` takes outcomes; `headers` holds what each endpoint is sent besides."""

    board: Board
    manners: Manners
    connections: aiohttp.ClientSession
    headers: Mapping[str, Mapping[str, str]]
    gauges: RouteGauges
    keep: Callable[[Outcome], None]

    async def route(self, asked: Asked, path: str, answering: Answering, began_s: float) -> dict[str, Any]:
        """Answer a request, `began_s` on the clock of time.perf_counter. Returns what the log tells of it.

        Raises UnknownName where nobody serves the model; only cancelling raises besides.
        """
        wanted, size = asked.wanted, self.board.size(asked)
        until_s = began_s + (wanted.deadline_s or self.manners.deadline_s)
        ranking = self.board.rank(asked.model, size, wanted, time.monotonic())
        tried: list[tuple[str, Attempt]] = []
        queue = list(ranking.options[: self.manners.attempts])
        again = True
        while queue and time.perf_counter() < until_s:
            option = queue.pop(0)
            letter = self._letter(asked, option, path, until_s, last=not queue)
            if not tried:
                leaves_s = time.perf_counter() - began_s
            found = await self._ask(option, size, letter, answering, len(tried) + 1)
            tried.append((option.name, found))
            if found.result in ("ok", "refused", "left") or answering.begun:
                break
            if found.broke_at_once and again:  # a kept connection may have gone stale: not its fault yet
                again = False
                queue.insert(0, option)
            if queue:
                self.gauges.retries.labels(option.name, found.why).inc()
        return await self._over(ranking, tried, wanted, answering, leaves_s if tried else 0.0)

    def _letter(self, asked: Asked, option: Option, path: str, until_s: float, last: bool) -> Letter:
        endpoint = self.board.by_name[option.name]
        stall_s = self.manners.stall_s
        if asked.stream and not last:
            stall_s = min(stall_s, max(LEAST_STALL_S, PATIENCE * option.slow_ttft_s))
        if not asked.stream:  # the first that comes is the end
            stall_s = self.manners.stall_s + PATIENCE * option.e2e_s
        return Letter(
            url=endpoint.url + path,
            headers=self.headers[option.name],
            body=payload(asked, endpoint, endpoint.usage),
            stream=asked.stream,
            strip_usage=endpoint.usage and not asked.wants_usage,
            stall_s=stall_s,
            until_s=until_s,
        )

    async def _ask(
        self, option: Option, size: Size, letter: Letter, answering: Answering, number: int
    ) -> Attempt:
        """One attempt, counted and kept however it ends."""
        ticket = self.board.begin(option.name, size, time.monotonic())
        told = _told(option, number)
        found = None
        try:
            found = await attempt(self.connections, letter, answering, told)
            return found
        finally:
            over = found or Attempt(0.0, "left", "left", "the caller went away")
            self._keep(ticket, size, over)

    def _keep(self, ticket: Ticket, size: Size, found: Attempt) -> None:
        waited_s = found.ended_s if found.why == "stall" and found.ttft_s is None else None
        seen = Seen(
            found.result, ticket.expected, found.ttft_s or waited_s, found.tpot_s,
            found.ended_s if found.result == "ok" else None, found.output_tokens, found.wait_s,
        )  # fmt: skip
        share_s = self.board.end(ticket, seen, time.monotonic())
        self.gauges.routed.labels(ticket.name, found.result).inc()
        if found.result in ("refused", "left"):
            return
        read = found.input_tokens if found.input_tokens is not None else size.input_tokens
        wrote, good = found.output_tokens, found.result == "ok"
        usd = self.board.usd(ticket.name, Size(read, wrote or 0), share_s)
        if good:
            self._count(ticket.name, found, read, usd)
        self.keep(
            Outcome(
                endpoint=self.board.by_name[ticket.name],
                date=datetime.now(UTC).isoformat(timespec="seconds"),
                in_flight=ticket.in_flight,
                input_tokens=round(read, 1),
                output_tokens=wrote,
                ttft_s=found.ttft_s, tpot_s=found.tpot_s, e2e_s=found.ended_s, usd=usd,
                why=None if good else found.why, detail=found.detail,
            )
        )  # fmt: skip

    def _count(self, name: str, found: Attempt, read: float, usd: float | None) -> None:
        if found.ttft_s is not None:
            self.gauges.ttft.labels(name).observe(found.ttft_s)
        self.gauges.e2e.labels(name).observe(found.ended_s)
        self.gauges.tokens.labels(name, "in").inc(read)
        self.gauges.tokens.labels(name, "out").inc(found.output_tokens or 0)
        if usd is not None:
            self.gauges.usd.labels(name).inc(usd)

    async def _over(
        self,
        ranking: Ranking,
        tried: list[tuple[str, Attempt]],
        wanted: Wanted,
        answering: Answering,
        leaves_s: float,
    ) -> dict[str, Any]:
        """End the answer, and say how it went."""
        told: dict[str, Any] = {"attempts": len(tried)}
        if not tried:
            self.gauges.unrouted.labels("closed" if ranking.left_out else "none").inc()
            await _nobody(ranking, answering)
            return told | {"left_out": ranking.left_out}
        name, found = tried[-1]
        told |= {"endpoint": name, "result": found.result}
        if found.ttft_s is not None:
            told |= {"ttft_s": round(found.ttft_s, 4), "output_tokens": found.output_tokens}
        failures = {name: each.detail for name, each in tried if each.result in ("failed", "busy")}
        told |= {"failures": failures} if failures else {}
        if found.result == "ok":
            self.gauges.own.observe(leaves_s + found.sent_s)
            self._met(name, found, wanted)
        elif found.result in ("failed", "busy"):
            if not answering.begun:
                self.gauges.unrouted.labels(found.why.partition(" ")[0]).inc()
                await _all_failed(tried, answering)
            elif found.whole:
                await break_off(answering, found)
        return told

    def _met(self, name: str, found: Attempt, wanted: Wanted) -> None:
        if wanted.timed:
            pairs = (
                (found.ttft_s, wanted.max_ttft_s),
                (found.tpot_s, wanted.max_tpot_s),
                (found.ended_s, wanted.max_e2e_s),
            )
            missed = any(seen is not None and most is not None and seen > most for seen, most in pairs)
            self.gauges.met.labels(name, "false" if missed else "true").inc()


def authorized(endpoint: Endpoint, key: str | None) -> dict[str, str]:
    """What an endpoint is sent besides the body. The caller's own key goes no further than the gateway."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _told(option: Option, number: int) -> Headers:
    found = [
        (b"x-metainf-endpoint", option.name.encode()),
        (b"x-metainf-attempts", str(number).encode()),
        (b"x-metainf-expected-ttft-s", f"{option.ttft_s:.4g}".encode()),
        (b"x-metainf-expected-tpot-s", f"{option.tpot_s:.4g}".encode()),
        (b"x-metainf-p-meets", f"{option.p_meets:.3f}".encode()),
    ]
    if option.usd is not None:
        found.append((b"x-metainf-expected-usd", f"{option.usd:.3g}".encode()))
    return found


async def _nobody(ranking: Ranking, answering: Answering) -> None:
    """No endpoint may be asked."""
    why = "; ".join(f"{name}: {each}" for name, each in ranking.left_out.items())
    limits = ("costs", "price", "meets")
    if ranking.wait_s is None and any(word in why for word in limits):
        message = f"no endpoint meets the limits: {why}"
        await answering.refuse(422, message, "invalid_request_error", "no_feasible")
        return
    wait = str(max(1, round(ranking.wait_s or 1))).encode()
    message = f"no endpoint can be asked now: {why}"
    await answering.refuse(503, message, "api_error", "no_endpoint", [(b"retry-after", wait)])


async def _all_failed(tried: list[tuple[str, Attempt]], answering: Answering) -> None:
    """Every endpoint that was asked failed before a token came."""
    why = "; ".join(f"{name}: {each.detail}" for name, each in tried)
    whys = {each.why for _, each in tried}
    if "deadline" in whys:
        await answering.refuse(504, f"no token before the deadline: {why}", "api_error", "deadline")
    elif whys == {"busy"}:
        wait = max(1, round(min(each.wait_s or 1.0 for _, each in tried)))
        more = [(b"retry-after", str(wait).encode())]
        await answering.refuse(429, f"every endpoint is busy: {why}", "rate_limit_error", "busy", more)
    else:
        await answering.refuse(502, f"no endpoint answered: {why}", "api_error", "upstream_error")
