"""Who asks, whether they may, and how often."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from metainf.api.problems import Refused, refusal
from metainf.domain import BadInput

if TYPE_CHECKING:
    from metainf.service.lanes import Lane
    from metainf.store.keys import Key, Keyring, Scope

FRESH_S = 2.0
"""How long a look at the keys holds: a revoked key is refused after at most so long."""
MOST_SEEN = 4096
BEARER = HTTPBearer(auto_error=False, description="A key made by `metainf keys add`.")


class Slower(Refused):
    """Too many requests; `wait_s` until the next is welcome."""

    def __init__(self, told: Refused, wait_s: int) -> None:
        super().__init__(told.problem)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Caller:
    """Who asks: the id of a key, None where none is needed."""

    key_id: str | None


class Pace:
    """So many requests in a time, for each key or address. None for no limit."""

    def __init__(self, rate: str | None) -> None:
        self._limit = None if rate is None else rate_of(rate)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def step(self, who: str) -> None:
        """Count one request. Raises Slower where it is one too many."""
        if self._limit is None or self._limiter.hit(self._limit, who):
            return
        reset_s = self._limiter.get_window_stats(self._limit, who).reset_time
        told = refusal("too-fast", 429, "Too many requests", f"expected at most {self._limit}")
        raise Slower(told, max(1, round(reset_s - time.time())))


def rate_of(text: str) -> RateLimitItem:
    """A limit such as 200/second. Raises BadInput."""
    try:
        return parse(text)
    except ValueError:
        raise BadInput(f"expected a rate such as 200/second or 5000/minute, found {text!r:.40}") from None


class Doors:
    """Checks keys against the store's, with a short memory, so that not every request asks the database."""

    def __init__(self, keyring: "Keyring", lane: "Lane", pace: Pace, public: bool) -> None:
        self._keyring, self._lane, self._pace, self._public = keyring, lane, pace, public
        self._seen: dict[str, tuple[Key | None, float]] = {}
        self._locked: tuple[bool, float] | None = None

    async def enter(self, request: Request, text: str | None, scope: "Scope") -> Caller:
        """The caller. Raises Refused: 401 without a good key, 403 where its scope is less, 429 too often."""
        address = request.client.host if request.client is not None else "unknown"
        key = None if text is None else await self._find(text)
        if key is not None and key.revoked_at is None:
            self._pace.step(f"key {key.key_id}")
            if not key.allows(scope):
                raise refusal(
                    "scope", 403, "Not allowed", f"expected a key with scope {scope}, found scope {key.scope}"
                )
            return Caller(key.key_id)
        self._pace.step(f"address {address}")
        if text is not None or await self.locked():
            lacks = "none" if text is None else "an unknown one" if key is None else "one that was revoked"
            raise refusal(
                "key", 401, "A key is needed", f"expected Authorization: Bearer KEY, found {lacks} "
                "(metainf keys add makes one)",
            )  # fmt: skip
        return Caller(None)

    async def _find(self, text: str) -> "Key | None":
        now_s = time.monotonic()
        kept = self._seen.get(text)
        if kept is not None and kept[1] > now_s:
            return kept[0]
        found = await self._lane.run(lambda: self._keyring.find(text))
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen[text] = found, now_s + FRESH_S
        return found

    async def locked(self) -> bool:
        """Whether a key is asked for: always from outside, on this machine once any key was made."""
        if self._public:
            return True
        now_s = time.monotonic()
        if self._locked is None or self._locked[1] <= now_s:
            some = await self._lane.run(lambda: bool(self._keyring.all()))
            self._locked = some, now_s + FRESH_S
        return self._locked[0]


def needs(scope: "Scope") -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, let in for this scope."""

    async def caller(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None
    ) -> Caller:
        doors: Doors = request.app.state.service.doors
        found = await doors.enter(request, None if given is None else given.credentials, scope)
        request.state.caller = found.key_id
        return found

    return caller


class Straight(APIRoute):
    """A route for reading whose function takes the request, the caller and the parts of the path, and makes
    its own response. Its signature is there for the document: FastAPI takes as long to fill it in as all the
    rest of a known answer does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function without what FastAPI puts around it."""
        enter, answer = needs("read"), self.endpoint

        async def handle(request: Request) -> Response:
            caller = await enter(request, await BEARER(request))
            found: Response = await answer(request, caller, **request.path_params)
            return found

        return handle


Reads = Annotated[Caller, Depends(needs("read"))]
Writes = Annotated[Caller, Depends(needs("write"))]
Rules = Annotated[Caller, Depends(needs("admin"))]
