"""Running a model through several nodes."""

import asyncio
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from metainf.api.foretelling import Foretelling
from metainf.domain import BadInput
from metainf.hosts.asked import Ask, Piece
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host import looking, serving
from metainf.swarm.host.believing import Manner, Verdicts, Watching
from metainf.swarm.host.billing import Billing
from metainf.swarm.host.caller import Caller
from metainf.swarm.host.demo import Script, Shown
from metainf.swarm.host.demo import demo as _demo
from metainf.swarm.host.generating import Course, Joined, Swarm, Written, written
from metainf.swarm.host.limits import Limits
from metainf.swarm.host.scheduling import Scheduler
from metainf.swarm.host.serving import Serving
from metainf.swarm.host.sources import folder_of
from metainf.swarm.net.directory import joined as directory_at
from metainf.swarm.net.servers import in_the_open
from metainf.swarm.plan.coverage import ModelState, SwarmState, bar
from metainf.swarm.privacy.guarding import Guard
from metainf.swarm.privacy.measured import what
from metainf.swarm.privacy.words import Required
from metainf.swarm.trust.identity import SEED_BYTES, Identity, kept
from metainf.swarm.trust.reputation_store import Reputations
from metainf.swarm.words import Demand

__all__ = [
    "Ask",
    "Billing",
    "Connected",
    "Course",
    "Demand",
    "Limits",
    "Manner",
    "ModelState",
    "Piece",
    "Required",
    "Script",
    "Serving",
    "Shown",
    "Swarm",
    "SwarmState",
    "Verdicts",
    "Watching",
    "Written",
    "bar",
    "demo",
    "digest_of",
    "joined",
    "serve",
    "states",
    "status",
    "warned",
    "what",
    "written",
]
Found = TypeVar("Found")


async def demo(model: Path | None, script: Script, say: Callable[[str], None]) -> Shown:
    """Four nodes as processes of this machine write a text, one is killed in the middle.

    `model` is a checkpoint's folder or a GGUF file; by default the packaged one. Raises BadInput,
    MissingExtra, and DidNotStart where a process does not come up.
    """
    if model is None:
        say("weights of the packaged model (the first time they are unpacked, which takes a minute)")
    folder = await asyncio.to_thread(folder_of, None if model is None else str(model))
    return await _demo(folder, script, say)


@asynccontextmanager
async def joined(
    join: str,
    model: str | None = None,
    replicas: bool = True,
    *,
    required: Required | None = None,
    manner: Manner | None = None,
) -> AsyncIterator[Swarm]:
    """A swarm to write texts with, several at a time: connections, directory and the model's ends are shared.

    `join` is the swarm's address; `model` a checkpoint's folder, a GGUF file or a name (SmolLM2 by default),
    of which the caller needs embedding, head and tokenizer. `swarm.asked(text)` makes a question of a text,
    `swarm.stream` writes it piece by piece, `swarm.generate` at once. Without `replicas` texts go through
    blocks only, where greedy ones and seeded draws stay the same over failures. `required` is a class of
    privacy; `manner` says what goes over the wire, which nodes are asked, and how they are watched, of which
    `swarm.watch` tells. Raises BadInput, MissingExtra, DirectoryLost, NotSupported.
    """
    folder = await asyncio.to_thread(folder_of, model)
    caller = await _caller(join, required, manner or Manner(), folder)
    async with Joined(caller, folder, None, replicas, manner) as swarm:
        yield swarm


async def serve(
    join: str,
    model: str | None,
    told: Serving,
    say: Callable[[str], None],
    billing: Billing | None = None,
    *,
    required: Required | None = None,
    manner: Manner | None = None,
) -> None:
    """An OpenAI-compatible endpoint in front of a swarm, until SIGTERM or SIGINT."""
    told.context()
    warned(say, join)
    folder = await asyncio.to_thread(folder_of, model)
    caller = await _caller(join, required, manner or Manner(), folder)
    await serving.serve(caller, folder, told, say, billing, manner)


def warned(say: Callable[[str], None], *urls: str | None) -> None:
    """Say where others could read what goes to NATS."""
    if (word := in_the_open(*urls)) is not None:
        say(f"warning: {word}")


async def _caller(join: str, required: Required | None, manner: Manner, folder: Path) -> Caller:
    identity, guard = Identity(os.urandom(SEED_BYTES)), Guard(required or Required())
    if manner.identity is not None:
        identity = kept(Path(manner.identity))
    scheduler = Scheduler(Foretelling(folder)) if manner.choose == "scheduler" else None
    directory = await directory_at(join, identity, stays=False)
    return Caller(directory, identity, guard=guard, scheduler=scheduler, changes=manner.changes)


def digest_of(model: str | None) -> str | None:
    """The digest of the weights in a folder; what is no folder is taken for a digest's beginning."""
    if model is None or not Path(model).is_dir():
        return model
    return Checkpoint(Path(model)).digest()


async def status(join: str, demand: Demand, reputation: Path | None = None) -> SwarmState:
    """What a swarm serves now, with the route that a session takes for such a request; with a file of
    reputations, one that has it. Raises DirectoryLost, BadInput for a file that is something else."""
    async for state in states(join, demand, reputation):
        return state
    raise AssertionError("there is a state at least")


async def states(
    join: str, demand: Demand, reputation: Path | None = None, every_s: float = 1.0
) -> AsyncIterator[SwarmState]:
    """The same again and again, until the caller has seen enough."""
    if reputation is not None and not reputation.is_file():
        raise BadInput(f"expected a file of reputations at {reputation}, found none")
    believe = None if reputation is None else Reputations(reputation, time.time).believed
    directory = await directory_at(join, stays=False)
    try:
        while True:
            yield await looking.state(directory, demand, believe)
            await asyncio.sleep(every_s)
    finally:
        await directory.close()


class Connected:
    """`joined` for code without asyncio: `with Connected(join, model) as swarm`. Threads may share it."""

    def __init__(
        self,
        join: str,
        model: str | None = None,
        replicas: bool = True,
        *,
        required: Required | None = None,
        manner: Manner | None = None,
    ) -> None:
        self._opening = joined(join, model, replicas, required=required, manner=manner)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="swarm", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.swarm = self._run(self._opening.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._run(self._opening.__aexit__(*error))
        finally:
            self._end()

    def asked(self, text: str, **terms: Any) -> Ask:
        """A question, as `Swarm.asked` makes it."""
        return self.swarm.asked(text, **terms)

    def generate(self, ask: Ask, course: Course | None = None) -> Written:
        """The whole text."""
        return self._run(self.swarm.generate(ask, course))

    def stream(self, ask: Ask, course: Course | None = None) -> Iterator[Piece]:
        """Pieces as they are written; closing the iterator frees the nodes."""
        box: queue.SimpleQueue[Piece | BaseException | None] = queue.SimpleQueue()

        async def fill() -> None:
            try:
                async for piece in self.swarm.stream(ask, course):
                    box.put(piece)
                box.put(None)
            except BaseException as error:
                box.put(error)
                raise

        filling = asyncio.run_coroutine_threadsafe(fill(), self._loop)
        try:
            while (found := box.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            filling.cancel()

    def _run(self, coroutine: Coroutine[Any, Any, Found]) -> Found:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
