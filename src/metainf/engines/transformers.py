"""Hugging Face transformers: our own host around `generate` and its continuous batching (as of 5.23).

transformers has a server of its own, without static batches or prompt lookup; the host has both
(`metainf.hosts.transformers`).
"""

from typing import ClassVar

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    Device,
    Flags,
    Hardware,
    Method,
    Model,
    NotSupported,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    WeightQuantization,
    Workload,
)
from metainf.engines.candidates import ANY_WORKLOAD, batch_limit
from metainf.engines.command import Command, Words, same
from metainf.engines.device_support import computes_bf16, maker, serves_cuda_stack
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.formats import is_gguf
from metainf.engines.hosted import Page
from metainf.engines.launch import dtype_name, not_offered
from metainf.engines.serving import ServingEngine

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


class Transformers(ServingEngine):
    """transformers on processors and on what PyTorch calls CUDA, one device for each process."""

    name = "transformers"
    title = "Hugging Face transformers"
    offers: tuple[type, ...] = (
        Batching,
        ChunkedPrefill,
        PrefixCache,
        Speculative,
        WeightQuantization,
        Precision,
        AttentionBackend,
        Flags,
    )
    words: ClassVar[Words] = Words(
        program=("python", "-m", "metainf.hosts.transformers"),
        tensor="",
        pipeline="",
        layouts=(),
        sequences="--max-batch-size",
        context="",
        weights={"int8": "int8", "int8dq": "int8"},
        caches={},
        speculative={"ngram": "ngram", "prompt_lookup": "ngram"}
        | dict.fromkeys(("draft", "draft_model"), "draft"),
        drafted=("draft",),
    )

    def serves(self, device: Device) -> bool:
        """Processors, and NVIDIA and AMD devices that PyTorch's kernels run on."""
        return maker(device) == "cpu" or serves_cuda_stack(device)

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ANY_WORKLOAD) -> list[Method]:
        """One at a time, static and continuous batches, and one at a time with prompt lookup."""
        if model.modality not in ("text", "multimodal") or not self.serves(hardware.device):
            return []
        if maker(hardware.device) != "cpu" and (hardware.count or 1) > 1:
            return []
        plain = Precision(dtype="bf16" if computes_bf16(hardware.device) else "fp16")
        most = min(64, batch_limit(workload))
        continuous = Batching(max_sequences=most)
        found = [
            (Batching(mode="none"),),
            (Batching(mode="static", max_sequences=most),),
            (continuous,),
            (continuous, PrefixCache()),
            (continuous, ChunkedPrefill(tokens=256)),
            (Batching(mode="none"), Speculative(algorithm="ngram", tokens=4)),
        ]
        return [Method(engine=self.name, techniques=(plain, *some)) for some in found]

    def start(self, command: Command) -> None:
        super().start(command)
        if maker(command.hardware.device) != "cpu":
            command.add("--device", "cuda")

    def spread(self, command: Command, layout: Parallelism) -> None:
        """One device: parallelism is not offered."""

    def weigh(self, command: Command) -> None:
        wanted, precision = command.get(WeightQuantization), command.get(Precision)
        if wanted is not None and is_gguf(wanted.format):
            command.notes.append(
                f"needs a GGUF file in {wanted.format}, whose weights are unpacked while loading"
            )
        elif wanted is not None:
            self.word("weight format", wanted.format, self.words.weights)
            if precision is not None and dtype_name(precision.dtype) != "float32":
                raise NotSupported("transformers makes int8 weights of fp32 ones: set precision to fp32")
            command.add("--int8-dynamic", *(("--dtype", "float32") if precision is None else ()))
        if precision is not None:
            command.add("--dtype", self.word("precision", dtype_name(precision.dtype), same(_DTYPES)))

    def batch(self, command: Command) -> None:
        batching, chunked = command.get(Batching), command.get(ChunkedPrefill)
        mode = batching.mode if batching is not None else "continuous"
        if batching is not None:
            command.add("--batching", "continuous" if mode == "continuous" else "static")
            command.add(self.words.sequences, 1 if mode == "none" else batching.max_sequences)
        if chunked is not None and (not chunked.enabled or mode != "continuous"):
            raise not_offered(self.name, "that chunked prefill", ["chunks within continuous batching"])
        tokens = self.step_tokens(command)
        if chunked is not None and tokens is None:
            tokens = 256
        command.add("--max-batch-tokens", tokens)

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        batching = command.get(Batching)
        if prefix.enabled and batching is not None and batching.mode != "continuous":
            raise not_offered(self.name, "a prefix cache of static batches", ["one of continuous batching"])
        command.add("--block-sharing" if prefix.enabled else "--no-block-sharing")

    def speculate(self, command: Command, speculative: Speculative) -> None:
        batching = command.get(Batching)
        if batching is None:
            command.add("--batching", "static", self.words.sequences, 1)
            command.notes.append("drafts are made for one request at a time, so batching is off")
        elif batching.mode != "none":
            raise NotSupported("transformers drafts for one request at a time: set batching mode to none")
        if self.algorithm(speculative) == "ngram":
            command.add("--prompt-lookup-num-tokens", speculative.tokens or 4)
        else:
            command.add("--assistant-model", speculative.draft_model)
            command.add("--num-assistant-tokens", speculative.tokens)

    def compute(self, command: Command) -> None:
        if (backend := command.get(AttentionBackend)) is not None:
            word = self.word("attention backend", backend.name, same(("sdpa", "eager")))
            command.add("--attn-implementation", word)

    def limit(self, command: Command) -> None:
        """The context is the model's own."""

    def evidence(self, reading: Reading) -> Evidence:
        """The host's counters. Weights made while loading are told; a GGUF file's are unpacked."""
        page = Page(reading, "transformers")
        dtype = page.fact("dtype")
        return Evidence(
            version=page.fact("version"),
            max_sequences=page.number("max_batch_size"),
            continuous=page.switch("batching", "continuous"),
            peak_running=page.peak_running(),
            mean_running=page.mean_running(),
            step_tokens=page.number("max_batch_tokens"),
            chunked_prefill=None if page.number("max_batch_tokens") is None else True,
            prefix_cache=page.switch("block_sharing"),
            prompt_tokens=page.gained("prompt_tokens"),
            prefix_hit_tokens=page.gained("prefix_hit_tokens"),
            speculative=page.fact("speculative"),
            drafted_tokens=page.gained("drafted_tokens"),
            accepted_tokens=page.gained("accepted_tokens"),
            weight_format=page.fact("weights"),
            attention=page.fact("attention"),
            precision=_DTYPES.get(dtype or ""),
        )
