"""One text on its way: through blocks or by a replica, whichever is cheaper, and over failures of both."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metainf.domain import NoFeasible
from metainf.hosts.asked import Ask
from metainf.swarm.host.course import Course
from metainf.swarm.host.flights import Flight
from metainf.swarm.host.limits import limits_in
from metainf.swarm.host.sampling import SEED_BITS, Choosing, Sampling
from metainf.swarm.host.scheduling import Asking
from metainf.swarm.ledger.evidence import answer_digest
from metainf.swarm.net.completing import ReplicaFailed, Request, completed
from metainf.swarm.net.hiring import NotPaid
from metainf.swarm.net.part import Recovery
from metainf.swarm.plan.replicas import Replica, Wanted
from metainf.swarm.plan.routing import Client
from metainf.swarm.words import Demand, Route, Span, Stage

if TYPE_CHECKING:
    from metainf.swarm.host.generating import Swarm

AGAIN_S = 0.1
ENGINE_SEED_BITS = 31
"""Of seeds that all engines take."""


@dataclass(frozen=True)
class Bit:
    """What was added to a text, how many tokens it has now, and at its end why it `finished`."""

    text: str
    tokens: int
    finished: str | None = None


class Passage:
    """The tokens that are certain, the text that they say, and the way that it goes on."""

    def __init__(
        self, swarm: "Swarm", prompt: list[int], ask: Ask, course: Course, patience_s: float
    ) -> None:
        self.swarm, self.prompt, self.ask, self.course, self.patience_s = (
            swarm, prompt, ask, course, patience_s,
        )  # fmt: skip
        seeded = ask.temperature > 0 and ask.seed is not None
        whole = swarm.replicas and (course.purse or course.bill) is None  # a replica signs no receipts
        self.wanted = Wanted(replicas=whole, path_first=seeded, numbers=swarm.manner.numbers)
        self.ends = frozenset[int]() if ask.ignore_eos else swarm.tokens.ends
        self.made: list[int] = []
        self.said = ""
        self.text = swarm.tokens.text()
        self.avoid: set[str] = set()
        self.lost: tuple[ReplicaFailed, float] | None = None

    async def bits(self) -> AsyncGenerator[Bit, None]:
        """The text, bit by bit. Where no way is left, one is waited for, and the text goes on from what there
        is. Raises NoFeasible where none was found for `patience_s`, NotPaid where nodes refuse the order."""
        choosing, caller, model = self._choosing(), self.swarm.caller, self.swarm.model
        self._bill()
        patience_s, went_on_s = 0.0, time.monotonic()
        while len(self.made) < self.ask.max_tokens:
            numbers, before = self.wanted.numbers, len(self.made)
            await caller.let_in(model, patience_s, replicas=self.wanted.replicas, numbers=numbers)
            try:
                way, flight = self._way()
                source = self._asked(way) if isinstance(way, Replica) else self._through(choosing)
                with flight:
                    async with aclosing(source) as bits:
                        async for bit in bits:
                            went_on_s = time.monotonic()
                            self._went_on()
                            flight.wrote(bit.tokens - before, bit.finished is not None)
                            yield bit
                return
            except ReplicaFailed as error:
                self._failed(error)
            except NotPaid:
                raise
            except NoFeasible:
                if time.monotonic() - went_on_s > self.patience_s:
                    raise
                self.avoid.clear()
                self.course.restarts += 1
                self.course.heard("waiting for nodes")
                await asyncio.sleep(AGAIN_S)
            patience_s = self.patience_s
        yield Bit("", len(self.made), "length")

    def _way(self) -> tuple[Replica | Route | None, Flight]:
        """Who writes on; None for a path where no replica is taken."""
        if not self.wanted.replicas:
            return None, Flight()
        swarm, watch, demand = self.swarm, self.swarm.watch, self._demand()
        known = Client(avoid=self.avoid)
        if watch is not None:
            known = Client({}, watch.reputation, self.avoid | watch.avoid, watch.doubted)
        asking = Asking((*self.prompt, *self.made), demand.new_tokens, limits_in(self.ask))
        return swarm.caller.way(swarm.model, asking, self.wanted, known)

    def _bill(self) -> None:
        """An order for the whole text, where it is paid for."""
        course, swarm = self.course, self.swarm
        if course.purse is not None and course.bill is None:
            most, asked = len(self.prompt) + self.ask.max_tokens, answer_digest(self.prompt)
            course.bill = course.purse.billed(swarm.model, swarm.num_blocks, asked, most)

    def _choosing(self) -> Choosing:
        ask, course, swarm = self.ask, self.course, self.swarm
        if ask.temperature > 0:
            drawn = int.from_bytes(os.urandom(SEED_BITS // 8))
            course.seed = ask.seed if ask.seed is not None else drawn
        return Choosing(swarm.ends, Sampling(ask.temperature, ask.top_p, course.seed or 0), swarm.thread)

    def _demand(self) -> Demand:
        done = len(self.made)
        return Demand(prompt_tokens=len(self.prompt) + done, new_tokens=self.ask.max_tokens - done)

    async def _through(self, choosing: Choosing) -> AsyncGenerator[Bit, None]:
        """Through blocks, token by token."""
        async with self.swarm.session(choosing, self.course, limits_in(self.ask)) as session:
            left = self.ask.max_tokens - len(self.made)
            fresh = session.generate([*self.prompt, *self.made], left)
            async with aclosing(cast(AsyncGenerator[int, None], fresh)) as tokens:
                async for token in tokens:
                    self.made.append(token)
                    self.course.answer.append(token)
                    yield (bit := self._bit(token))
                    if bit.finished:
                        return

    def _bit(self, token: int) -> Bit:
        count, finished, text = len(self.made), None, ""
        if token in self.ends:
            finished = "stop"
        else:
            text = self.text.add([token])
            finished = "length" if count >= self.ask.max_tokens else None
        if finished:
            text += self.text.rest()
        self.said += text
        return Bit(text, count, finished)

    async def _asked(self, way: Replica) -> AsyncGenerator[Bit, None]:
        """By a replica, from the prompt and the text so far."""
        caller, ask = self.swarm.caller, self.ask
        replica, engine = caller.replica(way.node, self.swarm.model, self._demand())
        whole = Span(start=0, end=self.swarm.num_blocks)
        self.course.heard(f"route {way.node[:11]} {whole} whole, by {engine}")
        if self.swarm.tokens.decode(self.made) != self.said:  # it ended within a character: that is left out
            self._from_text()
        seed = None if self.course.seed is None else self.course.seed % 2**ENGINE_SEED_BITS
        request = Request(
            prompt=(*self.prompt, *self.made), max_tokens=ask.max_tokens - len(self.made),
            temperature=ask.temperature, top_p=ask.top_p, seed=seed, ignore_eos=ask.ignore_eos,
        )  # fmt: skip
        before, pieces = len(self.made), 0
        try:
            async with aclosing(completed(replica, request, self.course.mark.trace)) as events:
                async for event in events:
                    pieces += bool(event.text)
                    self.said += event.text
                    told = pieces if event.output_tokens is None else event.output_tokens
                    yield Bit(event.text, before + told, event.finished)
        finally:
            self._from_text()

    def _from_text(self) -> None:
        """Tokens of the text so far, since a replica tells none."""
        tokens = self.swarm.tokens
        self.made = tokens.encode(self.said, special=False) if self.said else []
        self.text = tokens.text()
        self.text.add(self.made)

    def _failed(self, error: ReplicaFailed) -> None:
        """Leave that replica alone for this text, and until it lets one in anew."""
        self.swarm.caller.lost(error.node)
        self.avoid.add(error.node)
        self.lost = (error, time.perf_counter())
        told = (
            f"the text goes on elsewhere from its {len(self.made)} tokens"
            if self.said
            else "another is asked"
        )
        self.course.heard(f"lost {error}; {told}, perhaps in other words than this node's")

    def _went_on(self) -> None:
        if self.lost is not None:
            error, begun = self.lost
            stage = Stage(node=error.node, span=Span(start=0, end=self.swarm.num_blocks))
            tokens = len(self.prompt) + len(self.made)
            self.course.recoveries.append(Recovery(stage, error.why, time.perf_counter() - begun, tokens))
            self.lost = None
