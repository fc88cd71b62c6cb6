"""SGLang: `python -m sglang.launch_server` (flags: docs.sglang.io, advanced_features/server_arguments)."""

from dataclasses import replace
from typing import ClassVar

from metainf.domain import (
    AttentionBackend,
    ChunkedPrefill,
    Compile,
    Device,
    Parallelism,
    PrefixCache,
    Speculative,
)
from metainf.engines.candidates import Choices
from metainf.engines.command import Command, Words, same
from metainf.engines.device_support import (
    at_least,
    computes_fp8,
    computes_int8,
    computes_nvfp4,
    is_data_centre_amd,
    maker,
    reads_awq,
)
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.launch import degrees
from metainf.engines.serving import ServingEngine
from metainf.engines.sglang_log import sglang_evidence


class Sglang(ServingEngine):
    """The SGLang server on NVIDIA from Ampere and AMD Instinct MI300 on."""

    name = "sglang"
    title = "SGLang"
    words: ClassVar[Words] = Words(
        program=("python", "-m", "sglang.launch_server", "--model-path"),
        tensor="--tp-size",
        pipeline="--pp-size",
        data="--dp-size",
        layouts=("tensor", "pipeline", "data", "expert"),
        sequences="--max-running-requests",
        context="--context-length",
        weights=same(("fp8", "awq", "gptq", "mxfp4", "mxfp8", "bitsandbytes"))
        | dict.fromkeys(("int8", "w8a8"), "w8a8_int8")
        | {"nvfp4": "modelopt_fp4", "compressed_tensors": "compressed-tensors"},
        online=("fp8",),
        gguf=("--load-format", "gguf", "--quantization", "gguf"),
        proposed={
            "fp8": computes_fp8,
            "awq": reads_awq,
            "nvfp4": computes_nvfp4,
            "int8": lambda device: (
                computes_int8(device) and maker(device) == "nvidia" and not computes_fp8(device)
            ),
        },
        caches=same(("auto", "fp8_e4m3", "fp8_e5m2", "bf16")) | {"fp8": "fp8_e4m3"},
        cache_tiers=("device", "host"),
        speculative={"ngram": "NGRAM", "eagle": "EAGLE", "eagle3": "EAGLE3"}
        | dict.fromkeys(("mtp", "nextn"), "NEXTN")
        | dict.fromkeys(("draft", "draft_model"), "STANDALONE"),
        drafted=("EAGLE", "EAGLE3", "STANDALONE"),
    )

    def serves(self, device: Device) -> bool:
        """NVIDIA from Ampere, AMD Instinct from MI300 on."""
        return at_least(device, 8) or is_data_centre_amd(device)

    def choices(self, device: Device) -> Choices:
        """Mixture-of-experts models may also spread their attention over replicas."""
        return replace(super().choices(device), attention_data=True)

    def spread(self, command: Command, layout: Parallelism) -> None:
        tensor, _, data = degrees(layout, command.hardware.count)
        experts = tensor
        if layout.attention_data:
            experts = tensor * data
            replicas = data if data > 1 else tensor
            layout = layout.model_copy(update={"tensor": experts, "data": None})
            super().spread(command, layout)
            command.add(self.words.data, replicas, "--enable-dp-attention")
        else:
            super().spread(command, layout)
        if layout.expert is not None and layout.expert > 1:
            command.add("--ep-size", min(layout.expert, experts))

    def batch(self, command: Command) -> None:
        batching = self.batch_continuously(command)
        command.add("--max-prefill-tokens", batching and batching.max_tokens)
        if (chunked := command.get(ChunkedPrefill)) is None:
            return
        if chunked.enabled and chunked.tokens is None:
            command.notes.append("chunked prefill is on by default, with a chunk chosen for the device")
        command.add("--chunked-prefill-size", chunked.tokens if chunked.enabled else -1)

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        if not prefix.enabled:
            command.add("--disable-radix-cache")
        elif prefix.tier == "host":
            command.add("--enable-hierarchical-cache")
        else:
            command.notes.append("the radix prefix cache is on by default")

    def speculate(self, command: Command, speculative: Speculative) -> None:
        algorithm = self.algorithm(speculative)
        command.add("--speculative-algorithm", algorithm)
        command.add("--speculative-draft-model-path", speculative.draft_model)
        steps = speculative.tokens
        if steps is None:
            return
        drafts = steps
        if algorithm != "NGRAM":
            drafts += 1
            command.add("--speculative-num-steps", steps, "--speculative-eagle-topk", 1)
        command.add("--speculative-num-draft-tokens", drafts)

    def compute(self, command: Command) -> None:
        if (backend := command.get(AttentionBackend)) is not None:
            command.add("--attention-backend", backend.name.lower())
        if (compiled := command.get(Compile)) is not None:
            if compiled.enabled:
                command.add("--enable-torch-compile")
            else:
                command.notes.append("torch.compile is off by default")

    def address(self, host: str, port: int) -> tuple[str, ...]:
        """Also its metrics, which are off by default."""
        return *super().address(host, port), "--enable-metrics"

    def evidence(self, reading: Reading) -> Evidence:
        return sglang_evidence(reading, self.words.speculative)
