"""Steps of many sessions in few passes: what waits while a pass runs goes into the next one together.

`shared` decides, `Batcher` performs, in one thread. Nobody waits for company: a step that comes while nothing
runs is begun at once.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from metainf.swarm.compute.blocks import Blocks, Step

PASS_TOKENS = 256
"""Tokens of one pass."""
PROMPT_TOKENS = 64
"""Of these, those of prompts where one-token steps go along: a prompt in pieces delays others little."""
SMOOTHING = 0.2


@dataclass(frozen=True)
class Ask:
    """A step that waits: for which blocks, of which session, how many of its tokens are still to run."""

    part: Hashable
    session: str
    tokens: int


def shared(
    waiting: Sequence[Ask], pass_tokens: int = PASS_TOKENS, prompt_tokens: int = PROMPT_TOKENS
) -> list[tuple[int, int]]:
    """The next pass: numbers of the steps that take part, and how many tokens of each.

    `waiting` is in the order of arrival, and the oldest always takes part. With it go steps for the same
    blocks, one of a session: first those of one token, then pieces of prompts, each in their order.
    """
    if not waiting:
        return []
    seen: set[str] = set()
    first: list[int] = []
    for number, ask in enumerate(waiting):
        if ask.part == waiting[0].part and ask.session not in seen:
            seen.add(ask.session)
            first.append(number)
    single = [number for number in first if waiting[number].tokens == 1]
    longer = [number for number in first if waiting[number].tokens > 1]
    left = prompt_tokens if single else pass_tokens
    taken = []
    for number in longer:
        if left > 0:
            taken.append((number, min(left, waiting[number].tokens)))
            left -= taken[-1][1]
    room = pass_tokens - sum(tokens for _, tokens in taken)
    return [(number, 1) for number in single[:room]] + taken


@dataclass(eq=False)
class _Job:
    part: Blocks
    step: Step
    future: "Future[tuple[Any, float]]"
    since: float
    made: list[Any] = field(default_factory=list)
    done: int = 0
    seconds: float = 0.0

    @property
    def ask(self) -> Ask:
        return Ask(id(self.part), self.step.session, int(self.step.hidden.shape[1]) - self.done)

    def piece(self, tokens: int) -> Step:
        step, end = self.step, self.done + tokens
        if self.done == 0 and end == step.hidden.shape[1]:
            return step
        return Step(step.session, step.position + self.done, step.hidden[:, self.done : end])


@dataclass(frozen=True)
class _Close:
    part: Blocks
    session: str


class Batcher:
    """The one thread that calculates. A pass takes `slowness` times its work: above 1 it waits, as a slower
    machine would."""

    def __init__(self, slowness: float = 1.0) -> None:
        self.slowness = slowness
        self.passes = self.tokens = 0
        self.queue_s = 0.0
        """How long steps have waited lately before their first pass began."""
        self._inbox: queue.SimpleQueue[_Job | _Close | None] = queue.SimpleQueue()
        self._waiting: list[_Job] = []
        self._stopped = False
        self._running = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="blocks", daemon=True)
        self._thread.start()

    def submit(self, part: Blocks, step: Step) -> "Future[tuple[Any, float]]":
        """The activations after the blocks, and the seconds of the passes that made them; or what
        `Blocks.steps` gives for this step. Raises BadInput at once for activations of another shape."""
        part.check(step.hidden)
        future: Future[tuple[Any, float]] = Future()
        if self._stopped:
            future.cancel()
        else:
            self._inbox.put(_Job(part, step, future, time.perf_counter()))
        return future

    def at_once(self, part: Blocks, step: Step) -> "Future[tuple[Any, float]] | None":
        """The same in the thread that calls, where nothing runs or waits; None otherwise. It saves the way to
        another thread and back, and keeps the caller from all else meanwhile: for one token of the only
        session there is."""
        if self._stopped or self._waiting or not self._inbox.empty():
            return None
        if not self._running.acquire(blocking=False):
            return None
        try:
            part.check(step.hidden)
            job = _Job(part, step, Future(), time.perf_counter())
            self._passed([(job, int(step.hidden.shape[1]))])
        finally:
            self._running.release()
        return job.future

    def close(self, part: Blocks, session: str) -> None:
        """Forget a session and its waiting steps, after the pass that runs."""
        self._inbox.put(_Close(part, session))

    def stop(self) -> None:
        """End after the pass that runs; what waits, and what comes later, is cancelled."""
        self._stopped = True
        self._inbox.put(None)

    def _work(self) -> None:
        while self._received():
            chosen = [(self._waiting[number], tokens) for number, tokens in self._next()]
            if chosen:
                with self._running:
                    self._passed(chosen)
        while not self._inbox.empty():
            told = self._inbox.get()
            if told is not None:
                self._take(told)
        for job in self._waiting:
            job.future.cancel()

    def _received(self) -> bool:
        """Take in all that came; sleep where there is nothing to do. False when told to stop."""
        while True:
            try:
                told = self._inbox.get(block=not self._waiting)
                while told is not None:
                    self._take(told)
                    told = self._inbox.get_nowait()
                return False
            except queue.Empty:
                if self._waiting:
                    return True

    def _take(self, told: _Job | _Close) -> None:
        if isinstance(told, _Job):
            self._waiting.append(told)
            return
        gone = [job for job in self._waiting if (job.part, job.step.session) == (told.part, told.session)]
        for job in gone:
            self._waiting.remove(job)
            job.future.cancel()
        with self._running:
            told.part.close(told.session)

    def _next(self) -> list[tuple[int, int]]:
        self._waiting = [job for job in self._waiting if not job.future.cancelled()]
        return shared([job.ask for job in self._waiting])

    def _passed(self, chosen: Sequence[tuple[_Job, int]]) -> None:
        begun = time.perf_counter()
        for job, _ in chosen:
            if job.done == 0:
                self.queue_s += SMOOTHING * (begun - job.since - self.queue_s)
        try:
            made = chosen[0][0].part.steps([job.piece(tokens) for job, tokens in chosen])
        except Exception as error:  # the thread must go on for the others
            made = [error] * len(chosen)
        if self.slowness > 1:
            time.sleep((time.perf_counter() - begun) * (self.slowness - 1))
        took = time.perf_counter() - begun
        self.passes += 1
        self.tokens += sum(tokens for _, tokens in chosen)
        for (job, tokens), result in zip(chosen, made, strict=True):
            job.seconds += took
            self._settle(job, tokens, result)

    def _settle(self, job: _Job, tokens: int, result: Any) -> None:
        if not isinstance(result, Exception):
            job.made.append(result)
            job.done += tokens
            if job.ask.tokens:
                return
        if job in self._waiting:
            self._waiting.remove(job)
        with contextlib.suppress(InvalidStateError):  # cancelled by whoever waited
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                import torch

                whole = job.made[0] if len(job.made) == 1 else torch.cat(job.made, dim=1)
                job.future.set_result((whole, job.seconds))
