"""Texts through a swarm: one model's ends and tokenizer, one membership, several texts at once."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import Any

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.hosts.asked import Ask, Piece
from metainf.hosts.stops import Stops
from metainf.hosts.tracing import CURRENT, begun
from metainf.swarm.compute.blocks import Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.believing import Manner, Watch
from metainf.swarm.host.caller import Caller
from metainf.swarm.host.course import Course, Tell
from metainf.swarm.host.limits import Bounded, Limits
from metainf.swarm.host.passing import Bit, Passage
from metainf.swarm.host.sampling import Choosing
from metainf.swarm.host.tokens import Tokens
from metainf.swarm.net.client import Session
from metainf.swarm.privacy.splitting import KeptEnds, first_blocks
from metainf.swarm.trust.signing import Heard

STEP_S, PATIENCE_S = 10.0, 20.0
__all__ = ["Course", "Joined", "Swarm", "Tell", "Written", "written"]


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
        """Read the two ends and the tokenizer of a `model` (its digest). Raises BadInput and MissingExtra.

        `replicas` says whether whole models behind other engines may write texts too."""
        self.replicas = True
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
        keep = caller.guard.required.keep
        self.kept = first_blocks(checkpoint, keep) if keep else None

    def asked(self, text: str, system: str | None = None, plain: bool = False, **terms: Any) -> Ask:
        """A question: a conversation in the model's chat template where it has one, unless it is `plain`.
        `terms` are those of `Ask`, and `limits`. Raises BadInput for a `system` that no template takes."""
        if plain or not self.tokens.has_template:
            if system is not None:
                raise BadInput("expected a chat template for the system's words, found none: leave them away")
            return Bounded(text, **terms)
        told = [] if system is None else [{"role": "system", "content": system}]
        rendered = self.tokens.render([*told, {"role": "user", "content": text}])
        return Bounded(rendered, chat=True, **terms)

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
        stops, count, said, finished = Stops(ask.stop), 0, "", None
        async with aclosing(self._traced(prompt, ask, course)) as bits:
            async for bit in bits:
                if bit.tokens != count:
                    course.token()
                count, finished = bit.tokens, bit.finished
                said = stops.add(bit.text)
                if stops.found or finished:
                    break
                yield Piece(said, len(prompt), count)
        finished = "stop" if stops.found else finished
        said += stops.rest()
        yield Piece(said, len(prompt), count, None, finished)

    async def generate(self, ask: Ask, course: Course | None = None) -> Written:
        """The whole text. Raises as `stream` does."""
        course = course or Course()
        pieces = [piece async for piece in self.stream(ask, course)]
        return written(pieces, course, self.name)

    async def _traced(self, prompt: list[int], ask: Ask, course: Course) -> AsyncGenerator[Bit, None]:
        """The text bit by bit, as one span of the request's trace."""
        about: dict[str, str | int | float] = {
            "model": self.name,
            "input_tokens": len(prompt),
            "max_tokens": ask.max_tokens,
        }
        mark, made, why = begun("swarm.text", CURRENT.get(), about), 0, None
        course.mark = mark
        try:
            async with aclosing(Passage(self, prompt, ask, course, PATIENCE_S).bits()) as bits:
                async for bit in bits:
                    made = bit.tokens
                    yield bit
        except Exception as error:
            why = str(error)
            raise
        finally:
            mark.end(why, output_tokens=made, recoveries=len(course.recoveries))

    def session(self, choosing: Choosing, course: Course, limits: Limits | None = None) -> "_Counted":
        """A way through blocks for one text, by nodes that its limits admit."""
        bill = course.bill
        name, order = (os.urandom(8).hex(), "") if bill is None else (bill.session, bill.order)
        trace = course.mark.trace
        terms = self.manner.terms(name, self.model, step_s=STEP_S, order=order, trace=trace)
        caller, ends = self.caller, choosing if self.kept is None else KeptEnds(choosing, self.kept)
        everybody = limits is None or limits.everybody
        look = caller.look if limits is None or everybody else partial(_admitted, caller, limits)
        session = Session(ends, look, caller.mine, terms, course.heard, caller.channels)  # type: ignore[arg-type]
        session.rtt_ms = caller.rtt_ms
        session.first_block = caller.guard.required.keep
        if self.watch is not None:
            self.watch.believed(session)
        return _Counted(self, session, course, everybody)


async def _admitted(caller: Caller, limits: Limits) -> list[Heard]:
    """The nodes that let one in and that a text's limits admit."""
    return [each for each in await caller.look() if limits.admits(each.word)]


class _Counted:
    """A session whose failures are told to the membership and to the course of its text. It is audited only
    where all nodes of the caller may see it."""

    def __init__(self, swarm: Swarm, session: Session, course: Course, audited: bool) -> None:
        self.swarm, self.session, self.course, self.audited = swarm, session, course, audited

    async def __aenter__(self) -> Session:
        self.swarm.sessions += 1
        return await self.session.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        self.swarm.sessions -= 1
        if self.course.bill is not None and error[0] in (None, GeneratorExit):  # else steps are under way
            self.course.bill.close(await self.session.receipted(), self.course.answer)
        self.course.recoveries += self.session.recoveries
        if self.swarm.watch is not None:
            self.swarm.watch.ended(self.session, self.audited)
        for node in self.session.banned:
            self.swarm.caller.lost(node)
        if isinstance(self.session.ends, KeptEnds):
            self.session.ends.close()
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
        self,
        caller: Caller,
        folder: Path,
        name: str | None = None,
        replicas: bool = True,
        manner: Manner | None = None,
    ) -> None:
        self.caller, self.folder, self.name, self.replicas = caller, folder, name, replicas
        self.manner = manner or Manner()
        self._kept = AsyncExitStack()

    async def __aenter__(self) -> Swarm:
        """Raises BadInput, MissingExtra, DirectoryLost."""
        async with AsyncExitStack() as entering:
            caller = await entering.enter_async_context(self.caller)
            checkpoint = Checkpoint(self.folder)
            model = await asyncio.to_thread(checkpoint.digest)
            caller.expect(model)
            swarm = await asyncio.to_thread(Swarm, checkpoint, model, caller, self.name, self.manner)
            swarm.replicas = self.replicas and not self.caller.guard.required.keep
            entering.callback(swarm.thread.shutdown, wait=False)
            if self.manner.watching is not None:
                terms = self.manner.terms("audit", model, step_s=STEP_S)
                watch = Watch(self.manner.watching, caller, checkpoint, terms, lambda: swarm.sessions > 0)
                swarm.watch = await entering.enter_async_context(watch)
            self._kept = entering.pop_all()
        return swarm

    async def __aexit__(self, *_: object) -> None:
        await self._kept.aclose()
