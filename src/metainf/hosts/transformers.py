"""Hugging Face transformers behind the OpenAI API: `python -m metainf.hosts.transformers MODEL ...`.

Continuous batching is the library's own manager with paged attention; static batches are `generate` over
what waits, left-padded, and nothing joins until all of it is done. Text is written greedily. MODEL is a
folder or a GGUF file, whose weights are unpacked to the number format asked for.
"""

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MissingExtra
from metainf.hosts.asked import Ask, Piece, handed
from metainf.hosts.counters import Counters
from metainf.hosts.detokenize import TextOfTokens, Vocabulary
from metainf.hosts.start import run
from metainf.hosts.transformers_model import (
    assistant,
    attention_of,
    continuous,
    count_drafts,
    count_hits,
    facts,
    loaded,
)
from metainf.hosts.transformers_words import Words, read_words

_GATHER_S = 0.05


@dataclass(eq=False)
class Live:
    """One request on its way; `box` receives its pieces on the event loop."""

    tokens: Sequence[int]
    limit: int
    end: int | None
    text: TextOfTokens
    box: Any
    output: list[int] = field(default_factory=list)
    done: bool = False


class Transformers:
    """The model, its tokenizer and the thread that writes."""

    def __init__(self, words: Words) -> None:
        import torch
        import transformers

        if words.threads is not None:
            torch.set_num_threads(words.threads)
        self.words, self.torch, self.library = words, torch, transformers
        self.model = words.served_model_name or Path(words.model).stem
        self.network, self.tokenizer = loaded(words.model, words)
        self.helper = assistant(words) if words.assistant_model else None
        self.vocabulary = Vocabulary({}, self._ids, self.tokenizer.decode)
        self.counters = Counters("transformers")
        self.counters.facts = facts(words, self.network, transformers.__version__)
        self.changed = threading.Condition()
        self.waiting: list[Live] = []
        self.live: list[Live] = []
        self.wrote: set[Live] = set()
        self.stopping = False
        self.manager: Any = None
        count_drafts(self.network, self.counters)
        if words.batching == "continuous":
            count_hits(self.counters)

    def begin(self, events: asyncio.AbstractEventLoop) -> None:
        """Start the library's manager, or the thread of static batches."""
        self.events = events
        if self.words.batching == "continuous":
            self.manager = self.network.init_continuous_batching(
                self._config(), continuous(self.words, self.library)
            )
            self.manager.start()
            self.counters.facts["attention"] = attention_of(self.network)
        else:
            threading.Thread(target=self._static, name="transformers", daemon=True).start()

    async def submit(self, ask: Ask) -> AsyncIterator[Piece]:
        """Pieces of one completion. BadInput for a prompt that is empty, or for sampling."""
        if ask.temperature > 0 or ask.stop:
            raise BadInput("this host writes greedily and without stop texts: leave temperature at 0")
        tokens = list(ask.prompt) if isinstance(ask.prompt, tuple) else self._ids(ask.prompt)
        end = None if ask.ignore_eos else self.tokenizer.eos_token_id
        live = Live(tokens, ask.max_tokens, end, self.vocabulary.text(), asyncio.Queue())
        self.counters.sums["prompt_tokens"] += len(tokens)
        self._start(live)
        try:
            async for piece in handed(live.box):
                yield piece
        finally:
            live.done = True
            if self.manager is not None and live in self.live:
                self.manager.cancel_request(str(id(live)))
                self.live.remove(live)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation, by the model's own template."""
        try:
            made = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as error:
            raise BadInput(f"the chat template refuses the messages: {error}") from error
        return str(made)

    def metrics(self) -> str:
        """Counters of what was written."""
        levels = {"requests_running": len(self.live), "requests_waiting": len(self.waiting)}
        return self.counters.text(levels)

    def close(self) -> None:
        """Stop; what is being computed ends with the process."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        sys.stdout.flush()
        os._exit(0)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text).input_ids)

    def _config(self, tokens: int = 2**20) -> Any:
        end = self.tokenizer.eos_token_id or 0
        return self.library.GenerationConfig(
            max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=end
        )

    def _start(self, live: Live) -> None:
        if self.manager is None:
            with self.changed:
                self.waiting.append(live)
                self.changed.notify()
            return
        name = str(id(live))
        self.live.append(live)
        self.manager.register_result_handler(name, lambda found: self._continued(live, found))
        end = -1 if live.end is None else live.end
        tokens = list(live.tokens)
        taken = self.manager.add_request(tokens, name, live.limit, streaming=True, eos_token_id=end)
        if taken is None:
            live.box.put_nowait(RuntimeError("the library's continuous batching takes no more requests"))

    def _continued(self, live: Live, found: Any) -> None:
        """All tokens of a request so far; a request heard for the second time ends a step."""
        if found.error is not None:
            live.box.put_nowait(RuntimeError(f"the library gave the request up: {found.error}"))
            return
        if live in self.wrote:
            self._step(len(self.wrote))
            self.wrote.clear()
        self.wrote.add(live)
        self._wrote(live, list(found.generated_tokens)[len(live.output) :])
        if live.done and live in self.live:
            self.live.remove(live)

    def _step(self, size: int) -> None:
        self.counters.step_sizes[size] += 1
        self.counters.sums["steps"] += 1

    def _wrote(self, live: Live, tokens: Sequence[int]) -> None:
        """Hand over new tokens of a request, up to its end."""
        if live.done:
            return
        fresh: list[int] = []
        for token in tokens:
            fresh.append(token)
            live.done = token == live.end or len(live.output) + len(fresh) >= live.limit
            if live.done:
                break
        live.output += fresh
        self.counters.sums["generation_tokens"] += len(fresh)
        ended = bool(live.output) and live.output[-1] == live.end
        text = live.text.add(fresh[:-1] if ended else fresh) + (live.text.rest() if live.done else "")
        finished = ("stop" if ended else "length") if live.done else None
        piece = Piece(text, len(live.tokens), len(live.output), None, finished)
        self.events.call_soon_threadsafe(live.box.put_nowait, piece)

    def _static(self) -> None:
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.stopping or self.waiting)
                    self.changed.wait_for(self._full, _GATHER_S)
                    if self.stopping:
                        return
                    most = self.words.max_batch_size
                    self.live, self.waiting = self.waiting[:most], self.waiting[most:]
                self._generate(self.live)
                self.live = []
        except Exception:
            traceback.print_exc()
            os._exit(1)

    def _full(self) -> bool:
        return self.stopping or len(self.waiting) >= self.words.max_batch_size

    def _generate(self, batch: list[Live]) -> None:
        torch, words = self.torch, self.words
        longest = max(len(live.tokens) for live in batch)
        pads = [longest - len(live.tokens) for live in batch]
        rows = [[0] * pad + list(live.tokens) for pad, live in zip(pads, batch, strict=True)]
        mask = [[0] * pad + [1] * len(live.tokens) for pad, live in zip(pads, batch, strict=True)]
        drafts: dict[str, Any] = {}
        if words.prompt_lookup_num_tokens:
            drafts["prompt_lookup_num_tokens"] = words.prompt_lookup_num_tokens
        if self.helper is not None:
            drafts["assistant_model"] = self.helper
        self.network.generate(
            torch.tensor(rows, device=words.device),
            attention_mask=torch.tensor(mask, device=words.device),
            generation_config=self._config(max(live.limit for live in batch)),
            streamer=_Streamer(self, batch),
            stopping_criteria=[lambda ids, scores: torch.full((len(ids),), all(x.done for x in batch))],
            **drafts,
        )


class _Streamer:
    """What `generate` tells of each step: first the prompts, then new tokens."""

    def __init__(self, host: Transformers, batch: list[Live]) -> None:
        self.host, self.batch, self.prompted = host, batch, False

    def put(self, value: Any) -> None:
        if not self.prompted:
            self.prompted = True
            return
        tokens = value.flatten().tolist()
        rows = [[token] for token in tokens] if len(self.batch) > 1 else [tokens]
        self.host._step(sum(not live.done for live in self.batch))
        if self.host.counters.facts["speculative"] != "none":
            self.host.counters.sums["accepted_tokens"] += max(0, len(rows[0]) - 1)
        for live, fresh in zip(self.batch, rows, strict=True):
            self.host._wrote(live, fresh)

    def end(self) -> None:
        """Nothing is left to hand over."""


def main(argv: list[str] | None = None) -> int:
    """Serve until told to end; see `metainf.hosts.start.run` for what it returns."""
    words = read_words(argv)

    def load() -> Transformers:
        try:
            return Transformers(words)
        except ImportError as error:
            raise MissingExtra(f"serving with transformers ({error})", "transformers") from error

    return run(load, words.model, words.host, words.port)


if __name__ == "__main__":
    sys.exit(main())
