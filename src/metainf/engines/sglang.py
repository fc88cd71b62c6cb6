"""SGLang: `python -m sglang.launch_server` (flags: docs.sglang.io, advanced_features/server_arguments)."""

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
    is_data_centre_amd,
    maker,
    reads_awq,
)
from metainf.engines.formats import canonical, checkpoint_format, is_gguf
from metainf.engines.launch import Launch, checkpoint, degrees, not_offered, require_offered
from metainf.engines.serving import dtype_name, finding_notes, known_context_tokens

FORMATS = {
    "fp8": "fp8",
    "int8": "w8a8_int8",
    "w8a8": "w8a8_int8",
    "awq": "awq",
    "gptq": "gptq",
    "nvfp4": "modelopt_fp4",
    "mxfp4": "mxfp4",
    "mxfp8": "mxfp8",
    "bitsandbytes": "bitsandbytes",
    "compressed_tensors": "compressed-tensors",
}
ONLINE = ("fp8",)
SPECULATIVE = {
    "ngram": "NGRAM",
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "mtp": "NEXTN",
    "nextn": "NEXTN",
    "draft": "STANDALONE",
    "draft_model": "STANDALONE",
}
KV_FORMATS = {
    "auto": "auto",
    "fp8": "fp8_e4m3",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
    "bf16": "bf16",
}


class Sglang:
    """The SGLang server on NVIDIA from Ampere and AMD Instinct MI300 on."""

    name = "sglang"
    title = "SGLang"
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
        """Candidate methods; none for image models or devices without SGLang kernels."""
        device = hardware.device
        if model.modality not in ("text", "multimodal"):
            return []
        if not (at_least(device, 8) or is_data_centre_amd(device)):
            return []
        choices = Choices(
            engine=self.name,
            formats=_formats,
            kv_formats=lambda d: ("fp8",) if computes_fp8(d) else (),
            speculative=("ngram", "eagle3", "mtp"),
            chunk_tokens=(2048, 8192),
            attention_data=True,
        )
        return proposals(choices, model, hardware, workload)

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """`python -m sglang.launch_server ...`. NotSupported for settings SGLang has no flag for."""
        require_offered(self.name, method, self.offers)
        argv = ["python", "-m", "sglang.launch_server", "--model-path", checkpoint(model)]
        notes: list[str] = []
        argv += _parallel_flags(method, hardware)
        argv += _weight_flags(model, method, hardware.device, notes)
        argv += _schedule_flags(method, notes)
        argv += _cache_flags(method, notes)
        argv += _speculative_flags(method)
        if (backend := method.get(AttentionBackend)) is not None:
            argv += ["--attention-backend", backend.name.lower()]
        if (compiled := method.get(Compile)) is not None:
            argv += ["--enable-torch-compile"] if compiled.enabled else []
            notes += [] if compiled.enabled else ["torch.compile is off by default"]
        if (context := known_context_tokens(workload)) is not None:
            argv += ["--context-length", str(context)]
        if (flags := method.get(Flags)) is not None:
            argv += list(flags.values)
        notes += finding_notes(method, model, workload, hardware)
        return Launch(argv=tuple(argv), notes=tuple(notes))


def _formats(model: Model, device: Device) -> list[WeightQuantization]:
    found = []
    if computes_fp8(device):
        found.append(WeightQuantization(format="fp8", bits=8, activation_bits=8))
    if reads_awq(device):
        found.append(WeightQuantization(format="awq", bits=4, activation_bits=16))
    if computes_nvfp4(device):
        found.append(WeightQuantization(format="nvfp4", bits=4, activation_bits=4))
    if computes_int8(device) and maker(device) == "nvidia" and not computes_fp8(device):
        found.append(WeightQuantization(format="int8", bits=8, activation_bits=8))
    return found


def _parallel_flags(method: Method, hardware: Hardware) -> list[str]:
    layout = method.get(Parallelism)
    if layout is None:
        return []
    if layout.sequence is not None:
        raise not_offered(
            "sglang", f"sequence parallelism {layout.sequence}", ["tensor", "pipeline", "data", "expert"]
        )
    tensor, pipeline, data = degrees(layout, hardware.count)
    argv: list[str] = []
    if layout.attention_data:
        total = tensor * data
        argv += ["--tp", str(total), "--dp", str(data if data > 1 else tensor), "--enable-dp-attention"]
    else:
        argv += ["--tp", str(tensor)]
        argv += ["--dp", str(data)] if data > 1 else []
    argv += ["--pp-size", str(pipeline)] if pipeline > 1 else []
    if layout.expert is not None and layout.expert > 1:
        limit = tensor * data if layout.attention_data else tensor
        argv += ["--ep-size", str(min(layout.expert, limit))]
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
        return [*argv, "--load-format", "gguf", "--quantization", "gguf"]
    if name not in FORMATS:
        raise not_offered("sglang", f"weight format {quantized.format}", FORMATS)
    flag = FORMATS[name]
    if name in ("awq", "gptq") and at_least(device, 8):
        flag += "_marlin"
    made = f"{name} weights are made from the original checkpoint while loading"
    needed = f"needs a checkpoint of {model.name} quantized to {quantized.format}"
    notes.append(made if name in ONLINE else needed)
    return [*argv, "--quantization", flag]


def _schedule_flags(method: Method, notes: list[str]) -> list[str]:
    argv: list[str] = []
    if (batching := method.get(Batching)) is not None:
        if batching.mode != "continuous":
            raise not_offered("sglang", f"{batching.mode} batching", ["continuous batching"])
        notes.append("continuous batching is always on")
        if batching.max_sequences is not None:
            argv += ["--max-running-requests", str(batching.max_sequences)]
        if batching.max_tokens is not None:
            argv += ["--max-prefill-tokens", str(batching.max_tokens)]
    if (chunked := method.get(ChunkedPrefill)) is not None:
        if not chunked.enabled:
            argv += ["--chunked-prefill-size", "-1"]
        elif chunked.tokens is not None:
            argv += ["--chunked-prefill-size", str(chunked.tokens)]
        else:
            notes.append("chunked prefill is on by default, with a chunk chosen for the device")
    return argv


def _cache_flags(method: Method, notes: list[str]) -> list[str]:
    argv: list[str] = []
    if (prefix := method.get(PrefixCache)) is not None:
        if prefix.tier == "remote":
            raise not_offered("sglang", "a remote prefix cache without a storage backend", ["device", "host"])
        if not prefix.enabled:
            argv.append("--disable-radix-cache")
        elif prefix.tier == "host":
            argv.append("--enable-hierarchical-cache")
        else:
            notes.append("the radix prefix cache is on by default")
    if (cache := method.get(KvQuantization)) is not None:
        if cache.format.lower() not in KV_FORMATS:
            raise not_offered("sglang", f"cache format {cache.format}", KV_FORMATS)
        argv += ["--kv-cache-dtype", KV_FORMATS[cache.format.lower()]]
    return argv


def _speculative_flags(method: Method) -> list[str]:
    speculative = method.get(Speculative)
    if speculative is None:
        return []
    algorithm = SPECULATIVE.get(speculative.algorithm.lower())
    if algorithm is None:
        raise not_offered("sglang", f"speculative algorithm {speculative.algorithm}", SPECULATIVE)
    argv = ["--speculative-algorithm", algorithm]
    if speculative.draft_model is not None:
        argv += ["--speculative-draft-model-path", speculative.draft_model]
    elif algorithm in ("EAGLE", "EAGLE3", "STANDALONE"):
        raise NotSupported(
            f"sglang needs a draft model for {speculative.algorithm}: name one in draft_model, or use ngram"
        )
    steps = speculative.tokens
    if steps is None:
        return argv
    if algorithm == "NGRAM":
        return [*argv, "--speculative-num-draft-tokens", str(steps)]
    chain = ["--speculative-num-steps", str(steps), "--speculative-eagle-topk", "1"]
    return [*argv, *chain, "--speculative-num-draft-tokens", str(steps + 1)]
