"""OpenVINO GenAI: our own host around its continuous batching (`metainf.hosts.openvino`, as of 2026.4).

OpenVINO GenAI has no server of its own. Processors and Intel graphics run its paged attention; an NPU runs
a pipeline without it (openvino.genai, site/docs/guides/performance-optimization and NPU guide). AMD
processors are not on Intel's list of tested devices and run it well: every number in this project's study
was measured on one. GGUF types: those that src/cpp/src/gguf_utils/gguf_quants.cpp unpacks.
"""

import re
from math import ceil
from typing import ClassVar

from metainf.domain import (
    Batching,
    ChunkedPrefill,
    Device,
    Flags,
    Hardware,
    KvQuantization,
    Method,
    Model,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    WeightQuantization,
    Workload,
)
from metainf.engines.candidates import ANY_WORKLOAD, Choices
from metainf.engines.command import Command, Words, same
from metainf.engines.device_support import maker
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.formats import is_gguf
from metainf.engines.hosted import Page
from metainf.engines.launch import Launch, checkpoint, dtype_name, known_context_tokens, not_offered
from metainf.engines.memory import kv_gib_per_token
from metainf.engines.serving import ServingEngine

GGUF = ("F16", "BF16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_1", "Q4_0")
IR = {"int8": WeightQuantization(format="int8", bits=8), "int4": WeightQuantization(format="int4", bits=4.5)}
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_DTYPES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_ALGORITHMS = {"prompt_lookup": "ngram", "draft_model": "draft"}
WHOLE_PROMPT_TOKENS = 65536
CACHE_SHARE = 0.5
"""Of the memory, at most this much is given to the cache; requests beyond it wait."""


class OpenVino(ServingEngine):
    """OpenVINO GenAI on x86 processors and Intel graphics."""

    name = "openvino"
    title = "OpenVINO GenAI"
    offers: tuple[type, ...] = (
        Batching,
        ChunkedPrefill,
        PrefixCache,
        Speculative,
        WeightQuantization,
        KvQuantization,
        Precision,
        Flags,
    )
    words: ClassVar[Words] = Words(
        program=("python", "-m", "metainf.hosts.openvino"),
        tensor="",
        pipeline="",
        layouts=(),
        sequences="--max-num-seqs",
        context="--max-model-len",
        weights=same(IR),
        caches=same(("u8", "u4", "bf16", "f16", "f32")) | {"int8": "u8", "int4": "u4"},
        speculative={"ngram": "ngram", "prompt_lookup": "ngram", "eagle3": "eagle3"}
        | dict.fromkeys(("draft", "draft_model"), "draft"),
        drafted=("draft", "eagle3"),
    )
    context_step = 1024

    def serves(self, device: Device) -> bool:
        """x86 processors and Intel graphics; its paged attention does not run on an NPU."""
        if maker(device) == "cpu":
            return (device.vendor or "Intel").lower() in ("intel", "amd")
        return maker(device) == "intel" and device.kind == "gpu"

    def choices(self, device: Device) -> Choices:
        """Weights that optimum-intel exports, an 8-bit cache, drafts from the prompt."""
        return Choices(
            engine=self.name,
            formats=lambda model, it: list(IR.values()),
            kv_formats=lambda it: ("u8",),
            speculative=("ngram",),
            chunk_tokens=(256, 2048),
            layouts=lambda model, hardware: [Parallelism(tensor=1)],
        )

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ANY_WORKLOAD) -> list[Method]:
        """Candidate methods; one process uses all processors of the machine, but one graphics card."""
        if maker(hardware.device) != "cpu" and (hardware.count or 1) > 1:
            return []
        found = super().methods(model, hardware, workload)
        return list(dict.fromkeys(_without_layout(method) for method in found))

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """The host's command line; the library's log level makes it tell its own settings."""
        made = super().launch(model, method, hardware, workload)
        return made.model_copy(update={"env": {"OPENVINO_LOG_LEVEL": "3"}})

    def start(self, command: Command) -> None:
        model = command.model
        command.add(checkpoint(model))
        if not checkpoint(model).endswith(".gguf"):
            command.notes.append(
                f"needs {model.name} as OpenVINO IR (optimum-cli export openvino) or GGUF: give its path"
            )
        if maker(command.hardware.device) != "cpu":
            command.add("--device", "GPU")

    def weigh(self, command: Command) -> None:
        if (precision := command.get(Precision)) is not None:
            name = dtype_name(precision.dtype)
            word = self.word("precision", precision.dtype, _HINTS, name)
            command.add("--inference-precision", word)
        wanted = self.wanted_weights(command)
        if wanted is None:
            return
        if is_gguf(wanted.format):
            if wanted.format.upper() not in GGUF:
                raise not_offered(self.name, f"GGUF type {wanted.format}", GGUF)
            command.notes.append(f"{command.model.name} must be a GGUF file in {wanted.format}")
            return
        word = self.word("weight format", wanted.format, {**self.words.weights, **same(GGUF)})
        command.notes.append(
            f"needs OpenVINO IR made with optimum-cli export openvino --weight-format {word}"
        )

    def batch(self, command: Command) -> None:
        if (batching := command.get(Batching)) is not None:
            if batching.mode in ("static", "dynamic"):
                command.add("--static-batches")
                command.notes.append("a batch is what waits when the one before it is done")
            command.add(self.words.sequences, 1 if batching.mode == "none" else batching.max_sequences)
        chunked, tokens = command.get(ChunkedPrefill), self.step_tokens(command)
        if chunked is not None:
            command.add("--dynamic-split-fuse" if chunked.enabled else "--no-dynamic-split-fuse")
            if not chunked.enabled and tokens is None:
                tokens = known_context_tokens(command.workload) or WHOLE_PROMPT_TOKENS
        command.add("--max-num-batched-tokens", tokens)

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        command.add("--enable-prefix-caching" if prefix.enabled else "--no-enable-prefix-caching")

    def quantize_cache(self, command: Command, word: str) -> None:
        command.add("--kv-cache-precision", word)

    def speculate(self, command: Command, speculative: Speculative) -> None:
        if self.algorithm(speculative) == "ngram":
            command.add("--prompt-lookup")
        else:
            command.add("--draft-model", speculative.draft_model)
            command.notes.append(f"needs {speculative.draft_model} as OpenVINO IR or GGUF, same tokenizer")
        command.add("--num-assistant-tokens", speculative.tokens)

    def compute(self, command: Command) -> None:
        """Attention is always its paged attention."""

    def cache(self, command: Command) -> None:
        """A cache that nobody asked to be quantized is not: the library's own default is u8."""
        super().cache(command)
        if command.get(KvQuantization) is None:
            command.add("--kv-cache-precision", "f16")

    def limit(self, command: Command) -> None:
        """The longest request, and a cache that holds as many as run at once."""
        super().limit(command)
        context, batching = known_context_tokens(command.workload), command.get(Batching)
        per_token, memory = kv_gib_per_token(command.model, bits=16), command.hardware.device.memory_gib
        if context and per_token and batching is not None:
            most = 1 if batching.mode == "none" else batching.max_sequences or 1
            wanted = max(1, ceil(per_token * context * most))
            command.add("--cache-size", min(wanted, max(1, int((memory or wanted) * CACHE_SHARE))))

    def evidence(self, reading: Reading) -> Evidence:
        """The host's counters; number formats from the library's own log."""
        page = Page(reading, "openvino")
        log = reading.log.rpartition("Model: LLM with Paged Attention")[2]
        hits = page.gained("prefix_hit_tokens")
        speculative = page.fact("speculative")
        return Evidence(
            version=page.fact("version"),
            max_sequences=page.number("max_num_seqs"),
            continuous=page.switch("batching", "continuous"),
            peak_running=page.peak_running(),
            mean_running=page.mean_running(),
            step_tokens=page.number("max_num_batched_tokens"),
            context_tokens=page.number("cache_tokens"),
            chunked_prefill=page.switch("dynamic_split_fuse"),
            prefix_cache=page.switch("enable_prefix_caching"),
            prompt_tokens=page.gained("prompt_tokens"),
            prefix_hit_tokens=None if page.gained("prefix_disagreements") else hits,
            speculative=_ALGORITHMS.get(speculative or ""),
            draft_steps=page.gained("draft_steps"),
            accepted_tokens=page.gained("accepted_tokens"),
            weight_format=page.fact("weight_format"),
            kv_format=_found(r"KV_CACHE_PRECISION: (\w+)", log),
            precision=_DTYPES.get(_found(r"INFERENCE_PRECISION_HINT: (\w+)", log) or ""),
        )


def _without_layout(method: Method) -> Method:
    kept = tuple(item for item in method.techniques if not isinstance(item, Parallelism))
    return method.model_copy(update={"techniques": kept})


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match and match[1]
