"""A client: finds a route, sends activations through it, and goes on where a node fails.

It keeps the input of every stage. When a node fails, another way through the same blocks is found, the kept
input is sent through it, and the next step follows: with the same numbers the tokens are the same.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from metainf.domain import NoFeasible
from metainf.swarm.compute.blocks import Ends
from metainf.swarm.net.directory import DirectoryLost
from metainf.swarm.net.gathering import Gathered
from metainf.swarm.net.hiring import Unhired
from metainf.swarm.net.pacing import Bans, worth
from metainf.swarm.net.part import PREFILL_TOKENS, Part, Recovery, chunks, promised, shown
from metainf.swarm.net.stream import Activations, NotHired, OtherInput, StageFailed, Stream, Terms
from metainf.swarm.plan.replicas import runs_blocks
from metainf.swarm.plan.routing import Client, Costs, MissingBlocks, around, best_route
from metainf.swarm.plan.table import current, table
from metainf.swarm.trust.audit import Evidence
from metainf.swarm.trust.certificates import Certified
from metainf.swarm.trust.signing import Heard
from metainf.swarm.trust.tls import channel
from metainf.swarm.words import MOST_BLOCKS, Demand, Span, Stage

RETRY_S = 0.1
"""Between two looks for a node when none is left."""
MOST_TRIES = 8
"""So often a node that takes a session and fails its step is asked for one and the same step."""
Look = Callable[[], Awaitable[list[Heard]]]
Tell = Callable[[str], None]
Channels = dict[tuple[str, str], Any]
"""Channels by node and address."""


class Session:
    """One text on its way through the swarm. Use as an asynchronous context."""

    def __init__(
        self,
        ends: Ends,
        look: Look,
        mine: Certified,
        terms: Terms,
        tell: Tell | None = None,
        channels: Channels | None = None,
    ) -> None:
        """`look` reads the directory; `tell` hears of routes and failures. Where sessions share `channels`,
        who gives them closes them. `rtt_ms`, `reputation`, `avoid` and `doubted` may be set to what
        `routing.Client` takes."""
        self.ends, self.look, self.mine, self.terms = ends, look, mine, terms
        self.tell = tell or (lambda _: None)
        self.parts: list[Part] = []
        self.bans = Bans()
        self.recoveries: list[Recovery] = []
        self.costs = Costs(through_client=not terms.direct)
        self.demand = Demand()
        self._channels: Channels = {} if channels is None else channels
        self._shared = channels is not None
        self._closing: list[Any] = []
        self._heard: dict[str, Heard] = {}
        self.reputation: Mapping[str, float] = {}
        self.rtt_ms: Mapping[str, float] = {}
        self.avoid: Collection[str] = ()
        self.doubted: Collection[str] = ()
        self.first_block = 0
        """Where the swarm's part begins: blocks before it are run by the ends."""
        self.failures: list[StageFailed] = []
        self.gathered, self.unhired = Gathered(terms.order), Unhired()

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in self.parts:
            part.stream.cancel()
        mine = () if self._shared else self._channels.values()
        for each in (*mine, *self._closing):
            await each.close()

    def evidence(self) -> list[Evidence]:
        """What each stage of the route was given and answered so far."""
        return [part.evidence() for part in self.parts if part.made]

    async def receipted(self) -> list[str]:
        """The sealed receipts of all stages. The text is at its end; a stage whose receipt is wrong, or does
        not come, is among the `failures`."""
        for part in self.parts:
            await self._receipt(part.stream)
        return self.gathered.texts

    async def _receipt(self, stream: Stream) -> None:
        try:
            await self.gathered.ask(stream)
        except StageFailed as error:
            self._ban(StageFailed(error.stage, error.why))  # who worked signs: NotHired is a failure here

    @property
    def route(self) -> tuple[Stage, ...]:
        """Where the text goes now."""
        return tuple(part.stream.stage for part in self.parts)

    @property
    def banned(self) -> frozenset[str]:
        """Nodes that are left out at the moment."""
        return self.bans.now(time.monotonic())

    async def generate(self, tokens: Sequence[int], count: int, end: int | None = None) -> AsyncIterator[int]:
        """The likeliest tokens after the prompt, one by one, `count` at most; `end` closes the text, untold.

        Raises NoFeasible (MissingBlocks names the blocks) where no way is left."""
        self.demand = Demand(prompt_tokens=len(tokens), new_tokens=count)
        if not self.parts:
            whole = Span(start=self.first_block, end=MOST_BLOCKS)
            self.parts = await self._replaced(whole, [])
            await self._linked(0, len(self.parts))
            self.tell("route " + shown(self.route))
        hidden = None
        for at in range(0, len(tokens), PREFILL_TOKENS):
            hidden = await self._through(self.ends.embed(list(tokens[at : at + PREFILL_TOKENS])).numpy())
        for number in range(count):
            token = await self._chosen(self.ends.torch.from_numpy(hidden))
            if token == end:
                return
            yield token
            if number + 1 < count:
                hidden = await self._through(self.ends.embed([token]).numpy())
                await self._hastened(count - number - 2)

    async def _chosen(self, hidden: Any) -> int:
        """The next token. Ends that can work beside the event loop, for several sessions, do."""
        beside = getattr(self.ends, "greedy_beside", None)
        return int(await (beside or self.ends.greedy_together)(hidden))

    async def _through(self, hidden: Activations) -> Activations:
        """One step through all stages, however often the way has to change.

        The answers of the stages are taken in order. Where a stage handed its answer on, the next one is
        only listened to; else the client sends it there.
        """
        at, brought, tries = 0, b"", Counter[str]()
        while at < len(self.parts):
            part = self.parts[at]
            try:
                made = await part.stream.step(hidden, brought or None)
            except StageFailed as error:
                tries[error.stage.node] += 1
                if tries[error.stage.node] > MOST_TRIES:  # it opens, and then does nothing
                    raise NoFeasible(f"no node does this step: {error}") from None
                await self._recover(at, error)
                brought = b""
                continue
            part.history.append(hidden)
            part.made.append(made)
            hidden, at, brought = made, at + 1, part.stream.given
        return hidden

    async def _recover(self, at: int, error: StageFailed) -> None:
        """Put other stages in the place of one, and bring them to where it was."""
        begun = time.perf_counter()
        lost = self.parts[at]
        lost.stream.cancel()
        self._ban(error)
        fresh = await self._replaced(lost.stream.stage.span, lost.history)
        self.parts[at : at + 1] = fresh
        disputed = isinstance(error, OtherInput)  # that way is not used again: the client carries
        await self._linked(at + disputed, at + len(fresh))
        tokens = sum(values.shape[1] for values in lost.history)
        took = time.perf_counter() - begun
        self.recoveries.append(Recovery(error.stage, error.why, took, tokens))
        self.tell(f"route {shown(self.route)}, {tokens} tokens replayed, {took:.2f} s")

    async def _replaced(self, span: Span, history: list[Activations]) -> list[Part]:
        """Open stages through a span that have seen its history.

        Nodes that failed are left out while others are there; when none is left they are tried again, with
        more patience each time, until `patience_s` are over. Raises MissingBlocks then, or NotPaid where
        nodes hold the blocks but do not take the order.
        """
        give_up = time.monotonic() + self.terms.patience_s
        while True:
            fresh: list[Part] = []
            try:
                stages, heard = await self._way(span, self.banned)
                fresh = await self._all_opened(stages, heard)
                await self._replay(fresh, history)
                return fresh
            except StageFailed as again:
                for part in fresh:
                    part.stream.cancel()
                self._ban(again)
            except MissingBlocks as error:
                if not self.bans.times or time.monotonic() > give_up:
                    raise self.unhired.blamed(error) from None
                self.bans.lift()
                await asyncio.sleep(RETRY_S)

    async def _replay(self, fresh: list[Part], history: list[Activations]) -> None:
        for chunk in chunks(history):
            values = chunk
            for part in fresh:
                part.history.append(values)
                values = await part.stream.step(values)
                part.made.append(values)

    async def _linked(self, first: int, last: int) -> None:
        """Tell the stages [first, last), and the one before, whom to hand their answers to. A stage that does
        not take it is found out at its next step."""
        if not self.terms.direct:
            return
        for at in range(max(0, first - 1), min(last, len(self.parts) - 1)):
            before, after = self.parts[at], self.parts[at + 1]
            with contextlib.suppress(StageFailed):
                heard = after.heard
                await before.stream.link(heard.word.address, heard.certificate, after.stream)

    async def _hastened(self, left: int) -> None:
        """Leave a stage that has become slow, where somebody quicker is worth the replay."""
        for at, part in enumerate(self.parts):
            stream = part.stream
            if not stream.pace.lags():
                continue
            avoid = self.banned | {stream.stage.node}
            tokens = sum(values.shape[1] for values in part.history)
            fresh: list[Part] = []
            try:
                stages, heard = await self._way(stream.stage.span, avoid)
                paces = [promised(stage, heard[stage.node]) for stage in stages]
                then_s = sum(pace.promised_s for pace in paces)
                moving_s = tokens * sum(pace.promised_token_s or pace.promised_s for pace in paces)
                if not worth(stream.pace.usual_s, then_s, left, moving_s):
                    continue
                fresh = await self._all_opened(stages, heard)
                await self._replay(fresh, part.history)
            except MissingBlocks:
                continue
            except StageFailed as error:
                for each in fresh:
                    each.stream.cancel()
                self._ban(error)
                continue
            await self._receipt(stream)
            stream.cancel()
            self.bans.ban(stream.stage.node, time.monotonic())
            self.parts[at : at + 1] = fresh
            await self._linked(at, at + len(fresh))
            self.tell(f"route {shown(self.route)}, left {stream.stage.node[:11]}, which had become slow")
            return

    async def _way(self, span: Span, avoid: Collection[str]) -> tuple[tuple[Stage, ...], dict[str, Heard]]:
        """The best stages through a span (cut to the model), and who they are."""
        with contextlib.suppress(DirectoryLost) if self._heard else contextlib.nullcontext():
            self._heard = {each.word.node: each for each in await self.look()}
        words = current([each.word for each in self._heard.values()], self.terms.model, time.time())
        laid = table([word for word in words if runs_blocks(word, self.terms.numbers)])
        avoid = {*avoid, *self.avoid, *self.unhired.spans}
        client = Client(self.rtt_ms, self.reputation, avoid, self.doubted)
        end = min(span.end, laid.num_blocks)
        if not end or (span.start, end) == (0, laid.num_blocks):
            return best_route(laid, self.demand, client, self.costs).stages, self._heard
        return around(laid, Span(start=span.start, end=end), self.demand, client, self.costs), self._heard

    async def _all_opened(self, stages: Sequence[Stage], heard: dict[str, Heard]) -> list[Part]:
        """Streams to all stages, opened at once; none is left open where one fails."""
        parts = [self._part(stage, heard[stage.node]) for stage in stages]
        outcomes = await asyncio.gather(*(part.stream.open() for part in parts), return_exceptions=True)
        failed = [each for each in outcomes if isinstance(each, BaseException)]
        if failed:
            for part in parts:
                part.stream.cancel()
            for each in failed[1:]:
                if isinstance(each, StageFailed):
                    self._ban(each)
            raise failed[0]
        return parts

    def _part(self, stage: Stage, heard: Heard) -> Part:
        key = (stage.node, heard.word.address)
        if key not in self._channels:
            self._channels[key] = channel(heard.word.address, stage.node, heard.certificate, self.mine)
        pace = promised(stage, heard, self.bans.patience(stage.node))
        return Part(Stream(stage, self.terms, self._channels[key], pace), heard)

    def _ban(self, error: StageFailed) -> None:
        """Leave a node out for a while, unless nobody is to blame; for the whole text where it refuses the
        order."""
        if isinstance(error, NotHired):
            self.unhired.add(error)
        else:
            self.failures.append(error)
        if not isinstance(error, OtherInput | NotHired):
            self.bans.ban(error.stage.node, time.monotonic())
            gone = [key for key in self._channels if key[0] == error.stage.node and not self._shared]
            self._closing += [self._channels.pop(key) for key in gone]
        self.tell(f"lost {error}")
