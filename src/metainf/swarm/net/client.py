"""A client: finds a route, sends activations through it, and goes on where a node fails.

It keeps the input of every stage. When a node fails, another way through the same blocks is found, the kept
input is sent through it, and the next step follows: with the same numbers the tokens are the same.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metainf.swarm.compute.blocks import Ends
from metainf.swarm.net.stream import Activations, StageFailed, Stream, Terms
from metainf.swarm.plan.routing import Client, Costs, around, best_route
from metainf.swarm.plan.table import current, table
from metainf.swarm.trust.audit import Evidence
from metainf.swarm.trust.certificates import Certified
from metainf.swarm.trust.signing import Heard
from metainf.swarm.trust.tls import channel
from metainf.swarm.words import Demand, Stage

PREFILL_TOKENS = 256
"""Tokens of a prompt in one message."""
Look = Callable[[], Awaitable[list[Heard]]]
Tell = Callable[[str], None]


@dataclass
class _Part:
    """A stage, its stream, all that was sent into it and all that came back, as [1, tokens, width] each."""

    stream: Stream
    history: list[Activations] = field(default_factory=list)
    made: list[Activations] = field(default_factory=list)

    def evidence(self) -> Evidence:
        """What this very stage was given and answered, for audits; nothing of stages before it in its
        place."""
        inputs = self.history[: len(self.made)]
        return Evidence(self.stream.stage, np.concatenate(inputs, axis=1), np.concatenate(self.made, axis=1))


@dataclass(frozen=True)
class Recovery:
    """A failure that was survived: who, why, and the seconds from finding out to going on."""

    stage: Stage
    why: str
    seconds: float
    replayed_tokens: int


class Session:
    """One text on its way through the swarm. Use as an asynchronous context."""

    def __init__(
        self, ends: Ends, look: Look, mine: Certified, terms: Terms, tell: Tell | None = None
    ) -> None:
        """`look` reads the directory; `tell` hears of routes and failures."""
        self.ends, self.look, self.mine, self.terms = ends, look, mine, terms
        self.tell = tell or (lambda _: None)
        self.parts: list[_Part] = []
        self.banned: set[str] = set()
        self.recoveries: list[Recovery] = []
        self.costs = Costs(through_client=True)
        self.demand = Demand()
        self.reputation: Mapping[str, float] = {}
        self.avoid: Collection[str] = ()
        self.failures: list[StageFailed] = []
        self._channels: dict[str, Any] = {}

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in self.parts:
            part.stream.cancel()
        for each in self._channels.values():
            await each.close()

    def evidence(self) -> list[Evidence]:
        """What each stage of the route was given and answered so far."""
        return [part.evidence() for part in self.parts if part.made]

    def _client(self) -> Client:
        return Client(reputation=self.reputation, avoid={*self.banned, *self.avoid})

    @property
    def route(self) -> tuple[Stage, ...]:
        """Where the text goes now."""
        return tuple(part.stream.stage for part in self.parts)

    async def generate(self, tokens: Sequence[int], count: int, end: int | None = None) -> AsyncIterator[int]:
        """The likeliest tokens after the prompt, one by one, `count` at most; `end` closes the text, untold.

        Raises NoFeasible (MissingBlocks names the blocks) where no way is left."""
        self.demand = Demand(prompt_tokens=len(tokens), new_tokens=count)
        await self._begin()
        hidden = None
        for at in range(0, len(tokens), PREFILL_TOKENS):
            hidden = await self._through(self.ends.embed(list(tokens[at : at + PREFILL_TOKENS])).numpy())
        for number in range(count):
            token = self.ends.greedy(self.ends.torch.from_numpy(hidden))
            if token == end:
                return
            yield token
            if number + 1 < count:
                hidden = await self._through(self.ends.embed([token]).numpy())

    async def _begin(self) -> None:
        """Open a whole route; nodes that cannot be reached are left out."""
        while not self.parts:
            laid, heard = await self._table()
            stages = best_route(laid, self.demand, self._client(), self.costs).stages
            try:
                self.parts = await self._all_opened(stages, heard)
            except StageFailed as error:
                self._ban(error)
        self.tell("route " + shown(self.route))

    async def _through(self, hidden: Activations) -> Activations:
        """One step through all stages, however often the way has to change."""
        at = 0
        while at < len(self.parts):
            part = self.parts[at]
            try:
                made = await part.stream.step(hidden)
            except StageFailed as error:
                await self._recover(at, error)
                continue
            part.history.append(hidden)
            part.made.append(made)
            hidden, at = made, at + 1
        return hidden

    async def _recover(self, at: int, error: StageFailed) -> None:
        """Put other stages in the place of one, and bring them to where it was."""
        begun = time.perf_counter()
        lost = self.parts[at]
        lost.stream.cancel()
        self._ban(error)
        while True:
            laid, heard = await self._table()
            stages = around(laid, lost.stream.stage.span, self.demand, self._client(), self.costs)
            fresh: list[_Part] = []
            try:
                fresh = await self._all_opened(stages, heard)
                await self._replay(fresh, lost.history)
                break
            except StageFailed as again:
                for part in fresh:
                    part.stream.cancel()
                self._ban(again)
        self.parts[at : at + 1] = fresh
        tokens = sum(values.shape[1] for values in lost.history)
        took = time.perf_counter() - begun
        self.recoveries.append(Recovery(error.stage, error.why, took, tokens))
        self.tell(f"route {shown(self.route)}, {tokens} tokens replayed, {took:.2f} s")

    async def _replay(self, fresh: list[_Part], history: list[Activations]) -> None:
        for chunk in _chunks(history):
            values = chunk
            for part in fresh:
                part.history.append(values)
                values = await part.stream.step(values)
                part.made.append(values)

    async def _all_opened(self, stages: Sequence[Stage], heard: dict[str, Heard]) -> list[_Part]:
        """Streams to all stages; none is left open where one fails."""
        parts: list[_Part] = []
        try:
            for stage in stages:
                parts.append(_Part(await self._opened(stage, heard)))
        except StageFailed:
            for part in parts:
                part.stream.cancel()
            raise
        return parts

    def _ban(self, error: StageFailed) -> None:
        self.banned.add(error.stage.node)
        self.failures.append(error)
        self.tell(f"lost {error}")

    async def _table(self) -> tuple[Any, dict[str, Heard]]:
        heard = {each.word.node: each for each in await self.look()}
        words = current([each.word for each in heard.values()], self.terms.model, time.time())
        usable = [word for word in words if word.profile.numbers == self.terms.numbers]
        return table(usable), heard

    async def _opened(self, stage: Stage, heard: dict[str, Heard]) -> Stream:
        told = heard[stage.node]
        if stage.node not in self._channels:
            self._channels[stage.node] = channel(told.word.address, stage.node, told.certificate, self.mine)
        stream = Stream(stage, self.terms, self._channels[stage.node])
        await stream.open()
        return stream


def _chunks(history: list[Activations]) -> list[Activations]:
    """The same tokens in as few messages as may be."""
    if not history:
        return []
    whole = np.concatenate(history, axis=1)
    return [whole[:, at : at + PREFILL_TOKENS] for at in range(0, whole.shape[1], PREFILL_TOKENS)]


def shown(stages: Sequence[Stage]) -> str:
    """A route in a line."""
    return " > ".join(f"{stage.node[:11]} {stage.span}" for stage in stages)
