"""vLLM: `vllm serve` (flags as of vLLM 0.32, docs.vllm.ai configuration/engine_args)."""

import json

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    Compile,
    Device,
    Flags,
    Hardware,
    KvQuantization,
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
from metainf.engines.candidates import ANY_WORKLOAD, Choices, proposals
from metainf.engines.device_support import (
    at_least,
    computes_fp8,
    computes_int8,
    computes_nvfp4,
    maker,
    reads_awq,
    serves_cuda_stack,
)
from metainf.engines.formats import canonical, checkpoint_format, is_gguf
from metainf.engines.launch import Launch, checkpoint, degrees, not_offered, require_offered
from metainf.engines.serving import dtype_name, finding_notes, known_context_tokens

FORMATS = {
    "fp8": "fp8",
    "int8": "compressed-tensors",
    "w8a8": "compressed-tensors",
    "awq": "awq",
    "gptq": "gptq",
    "nvfp4": "modelopt_fp4",
    "mxfp4": "mxfp4",
    "bitsandbytes": "bitsandbytes",
    "compressed_tensors": "compressed-tensors",
}
ONLINE = ("fp8", "bitsandbytes")
SPECULATIVE = ("ngram", "suffix", "eagle", "eagle3", "mtp", "draft", "draft_model", "medusa")
KV_FORMATS = ("auto", "fp8", "fp8_e4m3", "fp8_e5m2")


class Vllm:
    """The vLLM server on NVIDIA, AMD and x86 processors."""

    name = "vllm"
    title = "vLLM"
    offers: tuple[type, ...] = (
        Batching,
        ChunkedPrefill,
        PrefixCache,
        Speculative,
        WeightQuantization,
        KvQuantization,
        Precision,
        Parallelism,
        AttentionBackend,
        Compile,
        Flags,
    )

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ANY_WORKLOAD) -> list[Method]:
        """Candidate methods; none for image models or devices without vLLM kernels."""
        if model.modality not in ("text", "multimodal") or not supports(hardware.device):
            return []
        choices = Choices(
            engine=self.name,
            formats=_formats,
            kv_formats=lambda device: ("fp8",) if computes_fp8(device) else (),
            speculative=("ngram", "eagle3", "mtp"),
            chunk_tokens=(2048, 8192, 16384) if _large(hardware.device) else (2048, 8192),
        )
        return proposals(choices, model, hardware, workload)

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """`vllm serve MODEL ...`. NotSupported for settings vLLM has no flag for."""
        require_offered(self.name, method, self.offers)
        argv = ["vllm", "serve", checkpoint(model)]
        notes: list[str] = []
        argv += _parallel_flags(method, hardware)
        argv += _weight_flags(model, method, hardware.device, notes)
        argv += _batch_flags(method, notes)
        argv += _cache_flags(method)
        if (speculative := method.get(Speculative)) is not None:
            argv += ["--speculative-config", json.dumps(_speculative(speculative), separators=(",", ":"))]
        if (backend := method.get(AttentionBackend)) is not None:
            argv += ["--attention-backend", backend.name]
        if (compiled := method.get(Compile)) is not None:
            argv += [] if compiled.enabled else ["--enforce-eager"]
            notes += ["compilation and CUDA graphs are on by default"] if compiled.enabled else []
        if (context := known_context_tokens(workload)) is not None:
            argv += ["--max-model-len", str(context)]
        if (flags := method.get(Flags)) is not None:
            argv += list(flags.values)
        notes += finding_notes(method, model, workload, hardware)
        return Launch(argv=tuple(argv), notes=tuple(notes))


def supports(device: Device) -> bool:
    """NVIDIA from Volta, AMD Instinct MI200 and RDNA3 on, and processors."""
    return serves_cuda_stack(device) or maker(device) == "cpu"


def _large(device: Device) -> bool:
    return (device.memory_gib or 0) >= 60


def _formats(model: Model, device: Device) -> list[WeightQuantization]:
    found = []
    if computes_fp8(device):
        found.append(WeightQuantization(format="fp8", bits=8, activation_bits=8))
    if reads_awq(device):
        found.append(WeightQuantization(format="awq", bits=4, activation_bits=16))
    if computes_nvfp4(device):
        found.append(WeightQuantization(format="nvfp4", bits=4, activation_bits=4))
    if computes_int8(device) and not computes_nvfp4(device):
        found.append(WeightQuantization(format="int8", bits=8, activation_bits=8))
    return found


def _parallel_flags(method: Method, hardware: Hardware) -> list[str]:
    layout = method.get(Parallelism)
    if layout is None:
        return []
    if layout.sequence is not None:
        raise not_offered(
            "vllm", f"sequence parallelism {layout.sequence}", ["tensor", "pipeline", "data", "expert"]
        )
    tensor, pipeline, data = degrees(layout, hardware.count)
    argv = ["--tensor-parallel-size", str(tensor)]
    argv += ["--pipeline-parallel-size", str(pipeline)] if pipeline > 1 else []
    argv += ["--data-parallel-size", str(data)] if data > 1 else []
    if layout.expert is not None and layout.expert > 1:
        if layout.expert != tensor * data:
            raise NotSupported(
                f"vllm spreads experts over tensor × data = {tensor * data} devices, not {layout.expert}: "
                f"set expert to {tensor * data}"
            )
        argv.append("--enable-expert-parallel")
    return argv


def _weight_flags(model: Model, method: Method, device: Device, notes: list[str]) -> list[str]:
    argv: list[str] = []
    if (precision := method.get(Precision)) is not None:
        argv += ["--dtype", dtype_name(precision.dtype)]
    quantized = method.get(WeightQuantization)
    if quantized is None:
        return argv
    name = canonical(quantized.format)
    if name == checkpoint_format(model):
        notes.append(f"the checkpoint is stored in {quantized.format} already")
        return argv
    if is_gguf(quantized.format):
        notes.append(f"needs a GGUF file of {model.name} in {quantized.format}: give its path as the model")
        return [*argv, "--quantization", "gguf"]
    if name not in FORMATS:
        raise not_offered("vllm", f"weight format {quantized.format}", FORMATS)
    flag = FORMATS[name]
    if name in ("awq", "gptq") and at_least(device, 8):
        flag += "_marlin"
    if name in ONLINE:
        notes.append(f"{name} weights are made from the original checkpoint while loading")
    else:
        notes.append(f"needs a checkpoint of {model.name} quantized to {quantized.format}")
    return [*argv, "--quantization", flag]


def _batch_flags(method: Method, notes: list[str]) -> list[str]:
    argv: list[str] = []
    batching, chunked = method.get(Batching), method.get(ChunkedPrefill)
    if batching is not None:
        if batching.mode != "continuous":
            raise not_offered("vllm", f"{batching.mode} batching", ["continuous batching"])
        notes.append("continuous batching is always on")
        argv += [] if batching.max_sequences is None else ["--max-num-seqs", str(batching.max_sequences)]
    tokens = {t for t in (batching and batching.max_tokens, chunked and chunked.tokens) if t}
    if len(tokens) > 1:
        raise NotSupported(
            f"vllm has one token limit per step, found two: {sorted(tokens)}: give one of them"
        )
    if chunked is not None:
        argv.append("--enable-chunked-prefill" if chunked.enabled else "--no-enable-chunked-prefill")
    if tokens:
        argv += ["--max-num-batched-tokens", str(tokens.pop())]
    return argv


def _cache_flags(method: Method) -> list[str]:
    argv: list[str] = []
    if (prefix := method.get(PrefixCache)) is not None:
        if prefix.tier not in (None, "device"):
            raise not_offered("vllm", f"a prefix cache on the {prefix.tier} tier", ["device tier"])
        argv.append("--enable-prefix-caching" if prefix.enabled else "--no-enable-prefix-caching")
    if (cache := method.get(KvQuantization)) is not None:
        if cache.format.lower() not in KV_FORMATS:
            raise not_offered("vllm", f"cache format {cache.format}", KV_FORMATS)
        argv += ["--kv-cache-dtype", cache.format.lower()]
    return argv


def _speculative(speculative: Speculative) -> dict[str, object]:
    algorithm = speculative.algorithm.lower()
    if algorithm not in SPECULATIVE:
        raise not_offered("vllm", f"speculative algorithm {speculative.algorithm}", SPECULATIVE)
    method = "draft_model" if algorithm == "draft" else algorithm
    config: dict[str, object] = {"method": method}
    if speculative.draft_model is not None:
        config["model"] = speculative.draft_model
    elif method in ("draft_model", "eagle", "eagle3", "medusa"):
        raise NotSupported(f"vllm needs a draft model for {algorithm}: name one in draft_model, or use ngram")
    config["num_speculative_tokens"] = speculative.tokens or (4 if method in ("ngram", "suffix") else 1)
    if method == "ngram":
        config |= {"prompt_lookup_min": 2, "prompt_lookup_max": 5}
    return config
