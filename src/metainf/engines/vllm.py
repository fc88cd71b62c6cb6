"""vLLM: `vllm serve` (flags as of vLLM 0.32, docs.vllm.ai configuration/engine_args)."""

import json
from dataclasses import replace
from typing import ClassVar

from metainf.domain import (
    AttentionBackend,
    ChunkedPrefill,
    Compile,
    Device,
    Hardware,
    NotSupported,
    Parallelism,
    PrefixCache,
    Speculative,
)
from metainf.engines.candidates import Choices
from metainf.engines.command import Command, Words, same
from metainf.engines.device_support import (
    computes_fp8,
    computes_int8,
    computes_nvfp4,
    maker,
    reads_awq,
    serves_cuda_stack,
)
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.launch import degrees
from metainf.engines.serving import ServingEngine
from metainf.engines.vllm_log import vllm_evidence

_DRAFTED_TOKENS = {"ngram": 4, "suffix": 4, "draft_model": 3}
_CORES_OF_RANKS = {
    "VLLM_CPU_SIM_MULTI_NUMA": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "auto",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
}
"""Each rank on a processor gets as many cores of its own; else all of them would compute on all cores."""


class Vllm(ServingEngine):
    """The vLLM server on NVIDIA, AMD and x86 processors."""

    name = "vllm"
    title = "vLLM"
    words: ClassVar[Words] = Words(
        program=("vllm", "serve"),
        tensor="--tensor-parallel-size",
        pipeline="--pipeline-parallel-size",
        data="--data-parallel-size",
        layouts=("tensor", "pipeline", "data", "expert"),
        sequences="--max-num-seqs",
        context="--max-model-len",
        weights=same(("fp8", "awq", "gptq", "mxfp4", "bitsandbytes"))
        | dict.fromkeys(("int8", "w8a8", "compressed_tensors"), "compressed-tensors")
        | {"nvfp4": "modelopt_fp4"},
        online=("fp8", "bitsandbytes"),
        proposed={
            "fp8": computes_fp8,
            "awq": reads_awq,
            "nvfp4": computes_nvfp4,
            "int8": lambda device: computes_int8(device) and not computes_nvfp4(device),
        },
        caches=same(("auto", "fp8", "fp8_e4m3", "fp8_e5m2")),
        speculative=same(("ngram", "suffix", "eagle", "eagle3", "mtp", "draft_model", "medusa"))
        | {"draft": "draft_model"},
        drafted=("draft_model", "eagle", "eagle3", "medusa"),
    )
    context_step = 2048
    forgets = "/reset_prefix_cache"  # there with VLLM_SERVER_DEV_MODE=1

    def serves(self, device: Device) -> bool:
        """NVIDIA from Volta, AMD Instinct MI200 and RDNA3 on, and processors."""
        return serves_cuda_stack(device) or maker(device) == "cpu"

    def choices(self, device: Device) -> Choices:
        """Large devices also get steps of 16384 tokens."""
        large = (device.memory_gib or 0) >= 60
        return replace(super().choices(device), chunk_tokens=(2048, 8192, 16384) if large else (2048, 8192))

    def ranks(self, hardware: Hardware) -> int | None:
        """On a processor ranks share its cores, so that one device bounds nothing."""
        return None if maker(hardware.device) == "cpu" else super().ranks(hardware)

    def spread(self, command: Command, layout: Parallelism) -> None:
        super().spread(command, layout)
        tensor, pipeline, data = degrees(layout, self.ranks(command.hardware))
        if maker(command.hardware.device) == "cpu" and tensor * pipeline * data > 1:
            command.env |= _CORES_OF_RANKS
        if layout.expert is None or layout.expert == 1:
            return
        if layout.expert != tensor * data:
            raise NotSupported(
                f"vllm spreads experts over tensor × data = {tensor * data} devices, not {layout.expert}: "
                f"set expert to {tensor * data}"
            )
        command.add("--enable-expert-parallel")

    def batch(self, command: Command) -> None:
        self.batch_continuously(command)
        if (chunked := command.get(ChunkedPrefill)) is not None:
            command.add("--enable-chunked-prefill" if chunked.enabled else "--no-enable-chunked-prefill")
        command.add("--max-num-batched-tokens", self.step_tokens(command))

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        command.add("--enable-prefix-caching" if prefix.enabled else "--no-enable-prefix-caching")

    def speculate(self, command: Command, speculative: Speculative) -> None:
        method = self.algorithm(speculative)
        config: dict[str, object] = {"method": method}
        if speculative.draft_model is not None:
            config["model"] = speculative.draft_model
        config["num_speculative_tokens"] = speculative.tokens or _DRAFTED_TOKENS.get(method, 1)
        if method == "ngram":
            config |= {"prompt_lookup_min": 2, "prompt_lookup_max": 5}
        command.add("--speculative-config", json.dumps(config, separators=(",", ":")))

    def compute(self, command: Command) -> None:
        if (backend := command.get(AttentionBackend)) is not None:
            command.add("--attention-backend", backend.name)
        if (compiled := command.get(Compile)) is not None:
            if compiled.enabled:
                command.notes.append("compilation and CUDA graphs are on by default")
            else:
                command.add("--enforce-eager")

    def evidence(self, reading: Reading) -> Evidence:
        return vllm_evidence(reading)
