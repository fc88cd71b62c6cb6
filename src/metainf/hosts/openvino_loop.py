"""The thread that drives OpenVINO GenAI's continuous batching: it steps while there is work, else sleeps.

Counted from what the pipeline hands over after each step: requests that shared the step (its own
`scheduled_requests`), tokens written, and, with speculation, the tokens beyond the one that a step writes
without it. Drafts are not counted: prompt lookup fills every one up to `num_assistant_tokens` with blanks
where the text so far offers fewer (openvino.genai, prompt_lookup/continuous_batching_for_prompt_lookup.cpp),
and it does not tell how many. Counted are the steps in which a request could have had a draft verified.
"""

import os
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from metainf.domain import BadInput
from metainf.hosts.asked import Piece
from metainf.hosts.counters import Counters
from metainf.hosts.detokenize import TextOfTokens
from metainf.hosts.prefixes import Prefixes

Deliver = Callable[[Sequence[tuple["Live", Piece | Exception]]], None]
_IDLE_STEP_S = 0.01
_GATHER_S = 0.05


@dataclass(eq=False)
class Live:
    """One request on its way. `box` receives its pieces on the event loop; `given_up` when nobody reads."""

    tokens: Sequence[int]
    config: Any
    text: TextOfTokens
    box: Any
    cached: int = 0
    handle: Any = None
    output: list[int] = field(default_factory=list)
    steps: int = 0
    given_up: bool = False


@dataclass
class Loop:
    """Requests in, pieces out.

    `drafts` tells whether steps verify drafted tokens besides their own; `sequences` how many requests the
    pipeline is given at a time. The loop holds the others back, because the pipeline keeps its own
    `max_num_seqs` only where dynamic_split_fuse is off (seen in 2026.4.1: six in one step of four). With
    `static`, what waits is taken together and nothing joins until all of it is done.
    """

    pipeline: Any
    counters: Counters
    deliver: Deliver
    drafts: bool = False
    sequences: int = 256
    step_tokens: int = 256
    prefixes: Prefixes | None = None
    static: bool = False
    waiting: list[Live] = field(default_factory=list)
    live: list[Live] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: bool = False
    number: int = 0

    def start(self) -> threading.Thread:
        """Run in a thread of its own; a failing step ends the process, as an engine that crashes does."""
        thread = threading.Thread(target=self._guarded, name="openvino", daemon=True)
        thread.start()
        return thread

    def submit(self, live: Live) -> None:
        """Hand a request over."""
        with self.changed:
            self.waiting.append(live)
            self.changed.notify()

    def give_up(self, live: Live) -> None:
        """Nobody reads this one any more."""
        with self.changed:
            live.given_up = True
            self.changed.notify()

    def stop(self) -> None:
        """End after the step at hand."""
        with self.changed:
            self.stopping = True
            self.changed.notify()

    def _guarded(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:
            traceback.print_exc()
            os._exit(1)

    def _turn(self) -> bool:
        with self.changed:
            while not (self.stopping or self.waiting or self.pipeline.has_non_finished_requests()):
                self.changed.wait()
            if self.stopping:
                return False
            self.waiting = [live for live in self.waiting if not live.given_up]
            if self.static and not self.live:
                self.changed.wait_for(self._batch_is_full, _GATHER_S)
            room = 0 if self.static and self.live else max(0, self.sequences - len(self.live))
            arrived, self.waiting = self.waiting[:room], self.waiting[room:]
        refused = [(live, error) for live in arrived if (error := self._begin(live)) is not None]
        self._drop_given_up()
        if not self.pipeline.has_non_finished_requests():
            self.deliver(refused)
            return True
        self.pipeline.step()
        metrics = self.pipeline.get_metrics()
        scheduled = metrics.scheduled_requests
        self._check_prefix(metrics.cache_usage)
        self.counters.step_sizes[scheduled] += 1
        self.counters.sums["steps"] += 1
        self.deliver([*refused, *self._harvest()])
        if not scheduled:
            with self.changed:
                self.changed.wait(_IDLE_STEP_S)
        return True

    def _batch_is_full(self) -> bool:
        return self.stopping or len(self.waiting) >= self.sequences

    def _drop_given_up(self) -> None:
        for live in [live for live in self.live if live.given_up]:
            live.handle.cancel()
            self.live.remove(live)

    def _begin(self, live: Live) -> Exception | None:
        import numpy as np
        from openvino import Tensor

        self.number += 1
        try:
            ids = Tensor(np.array([live.tokens], dtype=np.int64))
            live.handle = self.pipeline.add_request(self.number, ids, live.config)
        except RuntimeError as error:
            return BadInput(f"OpenVINO GenAI refuses the request: {str(error).strip().splitlines()[-1]}")
        if self.prefixes is not None:
            live.cached = self.prefixes.hit_tokens(live.tokens)
            self.counters.sums["prefix_hit_tokens"] += live.cached
        self.live.append(live)
        self.counters.sums["prompt_tokens"] += len(live.tokens)
        return None

    def _check_prefix(self, usage_percent: float) -> None:
        """Where a request is alone in its first step, hold its prefix hits against the cache's own usage."""
        if self.prefixes is None or len(self.live) != 1 or self.live[0].steps:
            return
        live, used = self.live[0], round(usage_percent / 100 * self.prefixes.blocks)
        wanted = self.prefixes.blocks_after_first_step(len(live.tokens), live.cached, self.step_tokens)
        self.counters.sums["prefix_checks"] += 1
        self.counters.sums["prefix_disagreements"] += used != wanted

    def _harvest(self) -> list[tuple[Live, Piece | Exception]]:
        pieces: list[tuple[Live, Piece | Exception]] = []
        for live in self.live:
            tokens: list[int] = []
            while live.handle.can_read():
                for output in live.handle.read().values():
                    tokens += output.generated_ids
            status = live.handle.get_status().name
            live.steps += not live.output
            if tokens:
                self._count(live, tokens)
            if status == "RUNNING" and not tokens:
                continue
            pieces.append((live, self._piece(live, tokens, status)))
        self.live = [live for live in self.live if live.handle.get_status().name == "RUNNING"]
        return pieces

    def _count(self, live: Live, tokens: list[int]) -> None:
        sums = self.counters.sums
        if live.output:
            sums["draft_steps"] += self.drafts
        else:
            sums["prefill_steps"] += live.steps
            if self.prefixes is not None:
                self.prefixes.computed(live.tokens)
        sums["accepted_tokens"] += len(tokens) - 1 if self.drafts else 0
        sums["generation_tokens"] += len(tokens)
        live.output += tokens

    def _piece(self, live: Live, tokens: list[int], status: str) -> Piece | Exception:
        if status == "IGNORED":
            return MemoryError("the key-value cache was full and OpenVINO GenAI dropped the request")
        text, finished = live.text.add(tokens), None
        if status != "RUNNING":
            self.counters.sums["requests_finished"] += 1
            text += live.text.rest()
            finished = "length" if len(live.output) >= live.config.max_new_tokens else "stop"
            if self.prefixes is not None:
                self.prefixes.computed([*live.tokens, *live.output[:-1]])
        cached = None if self.counters.sums["prefix_disagreements"] else live.cached  # refuted: not told
        return Piece(text, len(live.tokens), len(live.output), cached, finished)
