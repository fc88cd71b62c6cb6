"""Room for requests: so many at once, so many in line, the rest sent away with a time to come back."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from metainf.hosts.asked import Refusal

LONGEST_WAIT_S, FIRST_GUESS_S, WEIGHT = 60.0, 5.0, 0.2


def wait_s(mean_s: float, in_line: int, places: int) -> float:
    """Seconds until a place is likely free for one who comes behind `in_line` others."""
    return min(LONGEST_WAIT_S, max(1.0, mean_s * (in_line + 1) / places))


class Places:
    """First come, first served. `mean_s` is how long an answer took lately."""

    def __init__(self, places: int, in_line: int) -> None:
        self.places, self.most_in_line = places, in_line
        self.taken, self.mean_s = 0, FIRST_GUESS_S
        self.closed = False
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def in_line(self) -> int:
        """How many wait."""
        return len(self._line)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One place, waited for in line. Raises Refusal: 429 where the line is full, 503 once closed."""
        if self.closed:
            raise _leaving()
        if self.taken >= self.places:
            await self._wait()
        else:
            self.taken += 1
        begun = time.monotonic()
        try:
            yield
            self.mean_s += WEIGHT * (time.monotonic() - begun - self.mean_s)
        finally:
            self._free()

    async def _wait(self) -> None:
        if self.in_line >= self.most_in_line:
            told = f"{self.taken} requests are answered and {self.in_line} wait: ask again later"
            later = wait_s(self.mean_s, self.in_line, self.places)
            raise Refusal(429, "rate_limit_error", "too_many_requests", told, later)
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._line:
                self._line.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free()  # the place came in the moment of leaving
            raise

    def _free(self) -> None:
        """Hand the place to the next in line."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1

    def close(self) -> None:
        """Take nobody new; who is in line is sent away, who has a place keeps it."""
        self.closed = True
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_exception(_leaving())


def _leaving() -> Refusal:
    return Refusal(503, "api_error", "shutting_down", "this server is about to end: ask another", 1.0)
