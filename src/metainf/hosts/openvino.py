"""OpenVINO GenAI behind the OpenAI API: `python -m metainf.hosts.openvino MODEL --port 8000 ...`.

MODEL is a GGUF file or a folder with OpenVINO IR. A model that cannot be loaded ends it with 3, words that
it does not have with 2, each with one line that says why.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metainf.catalog.gguf import read_gguf
from metainf.catalog.gguf_model import number_format
from metainf.domain import BadInput, MissingExtra
from metainf.hosts.asked import Ask, Piece, handed
from metainf.hosts.counters import Counters
from metainf.hosts.detokenize import Vocabulary
from metainf.hosts.openvino_loop import Live, Loop
from metainf.hosts.openvino_words import Words, read_words
from metainf.hosts.prefixes import Prefixes
from metainf.hosts.start import last_line, run

_JOIN_S = 5.0


class OpenVino:
    """The pipeline, its tokenizer and the thread that steps it."""

    def __init__(self, words: Words, genai: Any) -> None:
        self.words, self.genai = words, genai
        self.model = words.served_model_name or Path(words.model).stem
        self.tokenizer = genai.Tokenizer(words.model)
        scheduler = _scheduler(words, genai)
        self.pipeline = genai.ContinuousBatchingPipeline(
            words.model, self.tokenizer, scheduler, words.device, **_properties(words, genai)
        )
        self.counters = Counters("openvino")
        self.counters.facts = _facts(words, genai, scheduler) | _weights(words)
        self.step_tokens: int = scheduler.max_num_batched_tokens
        self.sequences: int = scheduler.max_num_seqs
        self.vocabulary = Vocabulary(self.tokenizer.get_vocab(), self._ids, self.tokenizer.decode)
        self.blocks = self._blocks()
        self.counters.facts["cache_tokens"] = str(self.blocks * self._block_tokens())
        ctypes.CDLL(None).fflush(None)

    def begin(self, events: asyncio.AbstractEventLoop) -> None:
        """Start the stepping thread, which hands pieces to this event loop."""

        def deliver(pieces: Sequence[tuple[Live, Piece | Exception]]) -> None:
            if pieces:
                events.call_soon_threadsafe(_put, pieces)

        words = self.words
        prefixes = Prefixes(self._block_tokens(), self.blocks) if words.enable_prefix_caching else None
        self.loop = Loop(
            self.pipeline,
            self.counters,
            deliver,
            drafts=words.prompt_lookup or words.draft_model is not None,
            sequences=self.sequences,
            step_tokens=self.step_tokens,
            prefixes=prefixes,
            static=words.static_batches,
        )
        self.thread = self.loop.start()

    async def submit(self, ask: Ask) -> AsyncIterator[Piece]:
        """Pieces of one completion. BadInput for a prompt that is empty or does not fit."""
        tokens = await asyncio.to_thread(self._tokens, ask)
        self._refuse(len(tokens), ask.max_tokens)
        live = Live(tokens, self._config(ask), self.vocabulary.text(), asyncio.Queue())
        self.loop.submit(live)
        try:
            async for piece in handed(live.box):
                yield piece
        finally:
            self.loop.give_up(live)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation, by the model's own template."""
        if not isinstance(messages, list) or not all(isinstance(said, dict) for said in messages):
            raise BadInput("expected messages to be a list of objects with role and content")
        try:
            return str(self.tokenizer.apply_chat_template(messages, True))
        except RuntimeError as error:
            raise BadInput(f"the chat template refuses the messages: {last_line(error)}") from error

    def metrics(self) -> str:
        """Counters of the stepping thread and the pipeline's own levels."""
        found = self.pipeline.get_metrics()
        levels = {
            "requests_running": len(self.loop.live),
            "requests_waiting": len(self.loop.waiting),
            "cache_usage_percent": found.cache_usage,
            "max_cache_usage_percent": found.max_cache_usage,
            "cache_size_bytes": found.cache_size_in_bytes,
        }
        return self.counters.text(levels)

    def close(self) -> None:
        """Stop after the step at hand; a step that takes longer ends with the process."""
        self.loop.stop()
        self.thread.join(_JOIN_S)
        if self.thread.is_alive():
            sys.stdout.flush()
            os._exit(0)

    def _ids(self, text: str) -> list[int]:
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]]

    def _tokens(self, ask: Ask) -> Sequence[int]:
        if isinstance(ask.prompt, tuple):
            return ask.prompt
        found = self.tokenizer.encode(ask.prompt, add_special_tokens=not ask.chat)
        return [int(number) for number in found.input_ids.data[0]]

    def _refuse(self, prompt: int, new: int) -> None:
        """BadInput for a request that can never be scheduled, which the pipeline would wait for forever."""
        longest = min(self.words.max_model_len or sys.maxsize, self.blocks * self._block_tokens())
        if prompt < 1:
            raise BadInput("expected a prompt of one token or more, found none")
        if prompt + new > longest:
            raise BadInput(
                f"expected at most {longest} tokens, found {prompt} + {new}: raise --cache-size or shorten it"
            )
        if not self.words.dynamic_split_fuse and prompt > self.step_tokens:
            raise BadInput(
                f"a prompt of {prompt} tokens does not fit one step of {self.step_tokens}: "
                "raise --max-num-batched-tokens or use --dynamic-split-fuse"
            )

    def _block_tokens(self) -> int:
        """Tokens in one block of the paged cache: 32 on processors, 16 on graphics."""
        return 32 if self.words.device == "CPU" else 16

    def _config(self, ask: Ask) -> Any:
        made = self.genai.GenerationConfig()
        made.max_new_tokens, made.ignore_eos = ask.max_tokens, ask.ignore_eos
        made.apply_chat_template = False
        made.set_eos_token_id(self.tokenizer.get_eos_token_id())
        if ask.temperature > 0:
            made.do_sample, made.temperature, made.top_p = True, ask.temperature, ask.top_p
            made.rng_seed = ask.seed or 0
        if ask.stop:
            made.stop_strings = set(ask.stop)
        if self.words.prompt_lookup:
            made.max_ngram_size = self.words.max_ngram_size
        if self.words.prompt_lookup or self.words.draft_model is not None:
            made.num_assistant_tokens = self.words.num_assistant_tokens
        return made

    def _blocks(self) -> int:
        """Blocks of the key-value cache: one token written takes one, and the pipeline tells the share."""
        self.pipeline.generate(["a"], [self._config(Ask("a", 1, ignore_eos=True))])
        share = self.pipeline.get_metrics().max_cache_usage / 100
        return round(1 / share) if share > 0 else sys.maxsize


def _put(pieces: Sequence[tuple[Live, Piece | Exception]]) -> None:
    for live, piece in pieces:
        live.box.put_nowait(piece)


def _scheduler(words: Words, genai: Any) -> Any:
    made = genai.SchedulerConfig()
    made.cache_size = words.cache_size
    made.dynamic_split_fuse = words.dynamic_split_fuse
    made.enable_prefix_caching = words.enable_prefix_caching
    if words.max_num_seqs is not None:
        made.max_num_seqs = words.max_num_seqs
    if words.max_num_batched_tokens is not None:
        made.max_num_batched_tokens = words.max_num_batched_tokens
    return made


def _properties(words: Words, genai: Any) -> dict[str, Any]:
    named = {
        "KV_CACHE_PRECISION": words.kv_cache_precision,
        "INFERENCE_PRECISION_HINT": words.inference_precision,
        "INFERENCE_NUM_THREADS": words.threads,
        "prompt_lookup": words.prompt_lookup or None,
    }
    found = {name: value for name, value in named.items() if value is not None}
    if words.draft_model is not None:
        found["draft_model"] = genai.draft_model(words.draft_model, words.device)
    return found


def _facts(words: Words, genai: Any, scheduler: Any) -> dict[str, str]:
    speculative = "prompt_lookup" if words.prompt_lookup else "draft_model" if words.draft_model else "none"
    return {
        "version": genai.__version__,
        "device": words.device,
        "batching": "static" if words.static_batches else "continuous",
        "max_num_seqs": str(scheduler.max_num_seqs),
        "max_num_batched_tokens": str(scheduler.max_num_batched_tokens),
        "dynamic_split_fuse": str(scheduler.dynamic_split_fuse).lower(),
        "enable_prefix_caching": str(scheduler.enable_prefix_caching).lower(),
        "speculative": speculative,
        "num_assistant_tokens": str(words.num_assistant_tokens if speculative != "none" else 0),
    }


def _weights(words: Words) -> dict[str, str]:
    """The number format that a GGUF file's head tells, from which the pipeline was made; nothing of IR."""
    path = Path(words.model)
    return {"weight_format": number_format(read_gguf(path))} if path.suffix == ".gguf" else {}


def main(argv: list[str] | None = None) -> int:
    """Serve until told to end; see `metainf.hosts.start.run` for what it returns."""
    words = read_words(argv)

    def load() -> OpenVino:
        try:
            import openvino_genai
        except ImportError as error:
            raise MissingExtra("serving with OpenVINO GenAI", "openvino") from error
        return OpenVino(words, openvino_genai)

    return run(load, words.model, words.host, words.port)


if __name__ == "__main__":
    sys.exit(main())
