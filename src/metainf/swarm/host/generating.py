"""Texts through a swarm: one model's ends and tokenizer, one membership, several texts at once."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from metainf.domain import BadInput, NoFeasible
from metainf.domain.base import Frozen
from metainf.hosts.asked import Ask, Piece
from metainf.hosts.stops import Stops
from metainf.swarm.compute.blocks import Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.caller import Caller
from metainf.swarm.host.sampling import SEED_BITS, Choosing, Sampling
from metainf.swarm.host.tokens import Tokens
from metainf.swarm.host.watching import Manner, Watch
from metainf.swarm.net.client import Session
from metainf.swarm.net.part import Recovery

STEP_S, PATIENCE_S, AGAIN_S = 10.0, 20.0, 0.1
Tell = Callable[[str], None]


@dataclass
class Course:
    """How a text came to be: when, along which routes, over which failures. Filled while it is written.

    Seconds count from the request; `restarts` are the times that no way was left and one was waited for.
    """

    tell: Tell | None = None
    begun_s: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    last_s: float | None = None
    seed: int | None = None
    routes: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    restarts: int = 0

    def heard(self, line: str) -> None:
        if line.startswith("route "):
            self.routes.append(line.removeprefix("route "))
        if self.tell is not None:
            self.tell(line)

    def token(self) -> None:
        self.last_s = time.perf_counter() - self.begun_s
        self.first_s = self.last_s if self.first_s is None else self.first_s


class Written(Frozen):
    """A text and how it was written. `ttft_s` is the time to the first token, from the request on;
    `tokens_per_s` counts those after it."""

    text: str
    model: str
    input_tokens: int
    output_tokens: int
    finished: str
    ttft_s: float | None
    tokens_per_s: float | None
    seconds: float
    seed: int | None
    routes: tuple[str, ...]
    recoveries: int
    recovery_s: float
    replayed_tokens: int
    restarts: int


class Swarm:
    """A swarm that one model is asked of. Made by `joined`; texts may be written at the same time."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: str,
        caller: Caller,
        name: str | None = None,
        manner: Manner | None = None,
    ) -> None:
        """Read the two ends and the tokenizer of a `model` (its digest). Raises BadInput and MissingExtra."""
        self.caller, self.manner = caller, manner or Manner()
        self.watch: Watch | None = None
        self.name = name or checkpoint.folder.name
        self.num_blocks = checkpoint.num_blocks
        self.tokens = Tokens(checkpoint.folder)
        self.ends = Ends(checkpoint)
        self.model = model
        self.width = int(self.ends.embedding.weight.shape[0])
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="ends")
        self.sessions = 0

    def asked(self, text: str, system: str | None = None, plain: bool = False, **terms: Any) -> Ask:
        """A question: a conversation in the model's chat template where it has one, unless it is `plain`.
        `terms` are those of `Ask`. Raises BadInput for a `system` that no template takes."""
        if plain or not self.tokens.has_template:
            if system is not None:
                raise BadInput("expected a chat template for the system's words, found none: leave them away")
            return Ask(text, **terms)
        told = [] if system is None else [{"role": "system", "content": system}]
        rendered = self.tokens.render([*told, {"role": "user", "content": text}])
        return Ask(rendered, chat=True, **terms)

    def prompt(self, ask: Ask) -> list[int]:
        """The tokens of what is asked. Raises BadInput where they, and the answer, do not fit the model."""
        tokens = list(ask.prompt) if isinstance(ask.prompt, tuple) else []
        if isinstance(ask.prompt, str):
            tokens = self.tokens.encode(ask.prompt, special=not ask.chat)
        if not tokens:
            raise BadInput("expected a prompt of at least one token, found none")
        if not all(0 <= each < self.width for each in tokens):
            raise BadInput(f"expected token ids from 0 to {self.width - 1}")
        most = self.tokens.most_tokens
        if most is not None and len(tokens) + ask.max_tokens > most:
            raise BadInput(
                f"expected at most {most} tokens of prompt and answer, found {len(tokens)} and "
                f"{ask.max_tokens}: ask for fewer, or say less"
            )
        return tokens

    async def stream(self, ask: Ask, course: Course | None = None) -> AsyncGenerator[Piece, None]:
        """Pieces of text as they are certain; the last names why it `finished`. Leaving frees the nodes.

        Raises BadInput, and NoFeasible where no way through all blocks was found within PATIENCE_S."""
        course = course or Course()
        prompt = self.prompt(ask)
        text, stops = self.tokens.text(), Stops(ask.stop)
        ends = frozenset[int]() if ask.ignore_eos else self.tokens.ends
        count, said, finished = 0, "", None
        async with aclosing(self._tokens(prompt, ask, course)) as tokens:
            async for token in tokens:
                count += 1
                course.token()
                ended = token in ends
                said = "" if ended else stops.add(text.add([token]))
                if ended or stops.found:
                    finished = "stop"
                    break
                if count < ask.max_tokens:
                    yield Piece(said, len(prompt), count)
                else:
                    finished = "length"
                    break
        if not stops.found:
            said += stops.add(text.rest())
            finished = "stop" if stops.found else finished
            said += stops.rest()
        yield Piece(said, len(prompt), count, None, finished)

    async def generate(self, ask: Ask, course: Course | None = None) -> Written:
        """The whole text. Raises as `stream` does."""
        course = course or Course()
        pieces = [piece async for piece in self.stream(ask, course)]
        return written(pieces, course, self.name)

    async def _tokens(self, prompt: list[int], ask: Ask, course: Course) -> AsyncGenerator[int, None]:
        """Tokens without an end of their own. Where no way is left, one is waited for, and the text goes on
        from its tokens."""
        if ask.temperature > 0:
            drawn = int.from_bytes(os.urandom(SEED_BITS // 8))
            course.seed = ask.seed if ask.seed is not None else drawn
        choosing = Choosing(self.ends, Sampling(ask.temperature, ask.top_p, course.seed or 0), self.thread)
        made: list[int] = []
        patience_s, went_on_s = 0.0, time.monotonic()
        while True:
            await self.caller.let_in(self.model, patience_s, numbers=self.manner.numbers)
            try:
                async with self._session(choosing, course) as session:
                    left = ask.max_tokens - len(made)
                    fresh = session.generate([*prompt, *made], left)
                    async with aclosing(cast(AsyncGenerator[int, None], fresh)) as tokens:
                        async for token in tokens:
                            made.append(token)
                            went_on_s = time.monotonic()
                            yield token
                return
            except NoFeasible:
                if time.monotonic() - went_on_s > PATIENCE_S:
                    raise
                patience_s = PATIENCE_S
                course.restarts += 1
                course.heard("waiting for nodes")
                await asyncio.sleep(AGAIN_S)

    def _session(self, choosing: Choosing, course: Course) -> "_Counted":
        terms = self.manner.terms(os.urandom(8).hex(), self.model, step_s=STEP_S)
        caller = self.caller
        session = Session(choosing, caller.look, caller.mine, terms, course.heard, caller.channels)  # type: ignore[arg-type]
        session.rtt_ms = caller.rtt_ms
        if self.watch is not None:
            self.watch.believed(session)
        return _Counted(self, session, course)


class _Counted:
    """A session whose failures are told to the membership and to the course of its text."""

    def __init__(self, swarm: Swarm, session: Session, course: Course) -> None:
        self.swarm, self.session, self.course = swarm, session, course

    async def __aenter__(self) -> Session:
        self.swarm.sessions += 1
        return await self.session.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        self.swarm.sessions -= 1
        self.course.recoveries += self.session.recoveries
        if self.swarm.watch is not None:
            self.swarm.watch.ended(self.session)
        for node in self.session.banned:
            self.swarm.caller.lost(node)
        await self.session.__aexit__(*error)


def written(pieces: list[Piece], course: Course, model: str) -> Written:
    """What came of it all."""
    last = pieces[-1]
    after = last.output_tokens - 1
    took = None if course.first_s is None or course.last_s is None else course.last_s - course.first_s
    return Written(
        text="".join(piece.text for piece in pieces),
        model=model,
        input_tokens=last.input_tokens,
        output_tokens=last.output_tokens,
        finished=last.finished or "stop",
        ttft_s=course.first_s,
        tokens_per_s=after / took if took and after > 0 else None,
        seconds=time.perf_counter() - course.begun_s,
        seed=course.seed,
        routes=tuple(course.routes),
        recoveries=len(course.recoveries),
        recovery_s=sum(each.seconds for each in course.recoveries),
        replayed_tokens=sum(each.replayed_tokens for each in course.recoveries),
        restarts=course.restarts,
    )


class Joined:
    """`async with Joined(caller, folder) as swarm`: a membership, the model's ends, and who watches."""

    def __init__(
        self, caller: Caller, folder: Path, name: str | None = None, manner: Manner | None = None
    ) -> None:
        self.caller, self.folder, self.name, self.manner = caller, folder, name, manner or Manner()
        self._kept = AsyncExitStack()

    async def __aenter__(self) -> Swarm:
        """Raises BadInput, MissingExtra, DirectoryLost."""
        async with AsyncExitStack() as entering:
            caller = await entering.enter_async_context(self.caller)
            checkpoint = Checkpoint(self.folder)
            model = await asyncio.to_thread(checkpoint.digest)
            caller.expect(model)
            swarm = await asyncio.to_thread(Swarm, checkpoint, model, caller, self.name, self.manner)
            entering.callback(swarm.thread.shutdown, wait=False)
            if self.manner.watching is not None:
                terms = self.manner.terms("audit", model, step_s=STEP_S)
                watch = Watch(self.manner.watching, caller, checkpoint, terms, lambda: swarm.sessions > 0)
                swarm.watch = await entering.enter_async_context(watch)
            self._kept = entering.pop_all()
        return swarm

    async def __aexit__(self, *_: object) -> None:
        await self._kept.aclose()
