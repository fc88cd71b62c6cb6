"""TensorRT-LLM: `trtllm-serve` on the PyTorch backend, details in a YAML file (TensorRT-LLM 1.2).

Flags from the trtllm-serve command reference; file keys from the LLM API (`kv_cache_config`,
`speculative_config`, `enable_chunked_prefill`, `enable_attention_dp`). JSON is YAML, so it is written so.
"""

from dataclasses import replace
from typing import ClassVar

from metainf.domain import (
    AttentionBackend,
    BadInput,
    ChunkedPrefill,
    Compile,
    Device,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
)
from metainf.engines.candidates import Choices
from metainf.engines.command import Command, Words, same
from metainf.engines.device_support import at_least, computes_fp8, computes_nvfp4, reads_awq
from metainf.engines.formats import canonical
from metainf.engines.launch import checkpoint, dtype_name
from metainf.engines.serving import ServingEngine

HOST_CACHE_BYTES = 16 * 2**30


class TensorRtLlm(ServingEngine):
    """NVIDIA's server, from Ampere on."""

    name = "tensorrt-llm"
    title = "TensorRT-LLM"
    words: ClassVar[Words] = Words(
        program=("trtllm-serve",),
        tensor="--tp_size",
        pipeline="--pp_size",
        layouts=("tensor", "pipeline", "expert", "attention_data"),
        sequences="--max_batch_size",
        context="--max_seq_len",
        weights=same(("fp8", "nvfp4", "awq", "mxfp4", "w4a8_awq")),
        proposed={"fp8": computes_fp8, "nvfp4": computes_nvfp4, "awq": reads_awq},
        caches=same(("auto", "fp8", "nvfp4")),
        cache_tiers=("device", "host"),
        speculative={"ngram": "NGram", "eagle3": "Eagle3"}
        | dict.fromkeys(("mtp", "nextn"), "MTP")
        | dict.fromkeys(("draft", "draft_model"), "Draft_Target"),
        drafted=("Eagle3", "Draft_Target"),
        options_file="trtllm-options.yaml",
        options_flag="--extra_llm_api_options",
    )

    def serves(self, device: Device) -> bool:
        """NVIDIA from Ampere on."""
        return at_least(device, 8)

    def choices(self, device: Device) -> Choices:
        """One server has no replicas; mixture-of-experts models may spread their attention."""
        return replace(super().choices(device), data_replicas=False, attention_data=True)

    def start(self, command: Command) -> None:
        """The model: the original, or the folder that its quantization is to be written to."""
        model, wanted = command.model, self.wanted_weights(command)
        place = checkpoint(model)
        if wanted is not None:
            name = canonical(wanted.format)
            word = self.word("weight format", wanted.format, self.words.weights, name)
            place = f"./{place.rstrip('/').rsplit('/', 1)[-1]}-{word}"
            command.notes.append(
                f"first quantize {model.name} to {wanted.format} into {place} with Model Optimizer"
            )
        command.add(place, "--backend", "pytorch")

    def spread(self, command: Command, layout: Parallelism) -> None:
        super().spread(command, layout)
        if layout.expert is not None and layout.expert > 1:
            if (layout.tensor or 1) % layout.expert:
                raise BadInput(
                    f"expert degree {layout.expert} must divide the tensor degree {layout.tensor or 1}"
                )
            command.add("--ep_size", layout.expert)
        if layout.attention_data:
            command.options["enable_attention_dp"] = True

    def weigh(self, command: Command) -> None:
        if (precision := command.get(Precision)) is not None:
            command.options["dtype"] = dtype_name(precision.dtype)

    def batch(self, command: Command) -> None:
        self.batch_continuously(command)
        if (chunked := command.get(ChunkedPrefill)) is not None:
            command.options["enable_chunked_prefill"] = chunked.enabled
        command.add("--max_num_tokens", self.step_tokens(command))

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        cache = command.options.setdefault("kv_cache_config", {})
        cache["enable_block_reuse"] = prefix.enabled
        if prefix.tier == "host":
            cache["host_cache_size"] = HOST_CACHE_BYTES

    def quantize_cache(self, command: Command, word: str) -> None:
        command.options.setdefault("kv_cache_config", {})["dtype"] = word

    def speculate(self, command: Command, speculative: Speculative) -> None:
        kind = self.algorithm(speculative)
        config: dict[str, object] = {"decoding_type": kind}
        if speculative.draft_model is not None:
            config["speculative_model"] = speculative.draft_model
        tokens = speculative.tokens or (4 if kind == "NGram" else 1)
        config["num_nextn_predict_layers" if kind == "MTP" else "max_draft_len"] = tokens
        if kind == "NGram":
            config["max_matching_ngram_size"] = 4
        command.options["speculative_config"] = config

    def compute(self, command: Command) -> None:
        if (backend := command.get(AttentionBackend)) is not None:
            command.options["attn_backend"] = backend.name.upper()
        if (compiled := command.get(Compile)) is not None:
            if compiled.enabled:
                command.options["torch_compile_config"] = {}
            else:
                command.notes.append("torch.compile is off by default")
