"""TensorRT-LLM: `trtllm-serve` on the PyTorch backend, details in a YAML file (TensorRT-LLM 1.2).

Flags from the trtllm-serve command reference; file keys from the LLM API (`kv_cache_config`,
`speculative_config`, `enable_chunked_prefill`, `enable_attention_dp`). JSON is YAML, so it is written so.
"""

import json

from metainf.domain import (
    AttentionBackend,
    BadInput,
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
from metainf.engines.device_support import at_least, computes_fp8, computes_nvfp4, reads_awq
from metainf.engines.formats import canonical, checkpoint_format
from metainf.engines.launch import Launch, checkpoint, degrees, not_offered, require_offered
from metainf.engines.serving import dtype_name, finding_notes, known_context_tokens

OPTIONS_FILE = "trtllm-options.yaml"
FORMATS = ("fp8", "nvfp4", "awq", "mxfp4", "w4a8_awq")
SPECULATIVE = {
    "ngram": "NGram",
    "eagle3": "Eagle3",
    "mtp": "MTP",
    "nextn": "MTP",
    "draft": "Draft_Target",
    "draft_model": "Draft_Target",
}
KV_FORMATS = ("auto", "fp8", "nvfp4")


class TensorRtLlm:
    """NVIDIA's server, from Ampere on."""

    name = "tensorrt-llm"
    title = "TensorRT-LLM"
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
        """Candidate methods; none for image models or devices other than NVIDIA from Ampere on."""
        if model.modality not in ("text", "multimodal") or not at_least(hardware.device, 8):
            return []
        choices = Choices(
            engine=self.name,
            formats=_formats,
            kv_formats=lambda device: ("fp8",) if computes_fp8(device) else (),
            speculative=("ngram", "eagle3", "mtp"),
            chunk_tokens=(2048, 8192),
            data_replicas=False,
            attention_data=True,
        )
        return proposals(choices, model, hardware, workload)

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """`trtllm-serve MODEL ...` and its options file. NotSupported for settings it lacks."""
        require_offered(self.name, method, self.offers)
        notes: list[str] = []
        options: dict[str, object] = {}
        argv = ["trtllm-serve", _checkpoint(model, method, notes), "--backend", "pytorch"]
        argv += _parallel_flags(method, hardware, options)
        argv += _batch_flags(method, options, notes)
        if (precision := method.get(Precision)) is not None:
            options["dtype"] = dtype_name(precision.dtype)
        _cache_options(method, options)
        if (speculative := method.get(Speculative)) is not None:
            options["speculative_config"] = _speculative(speculative)
        if (backend := method.get(AttentionBackend)) is not None:
            options["attn_backend"] = backend.name.upper()
        if (compiled := method.get(Compile)) is not None:
            if compiled.enabled:
                options["torch_compile_config"] = {}
            else:
                notes.append("torch.compile is off by default")
        if (context := known_context_tokens(workload)) is not None:
            argv += ["--max_seq_len", str(context)]
        files = {}
        if options:
            files[OPTIONS_FILE] = json.dumps(options, indent=2, sort_keys=True) + "\n"
            argv += ["--extra_llm_api_options", OPTIONS_FILE]
        if (flags := method.get(Flags)) is not None:
            argv += list(flags.values)
        notes += finding_notes(method, model, workload, hardware)
        return Launch(argv=tuple(argv), files=files, notes=tuple(notes))


def _formats(model: Model, device: Device) -> list[WeightQuantization]:
    found = []
    if computes_fp8(device):
        found.append(WeightQuantization(format="fp8", bits=8, activation_bits=8))
    if computes_nvfp4(device):
        found.append(WeightQuantization(format="nvfp4", bits=4, activation_bits=4))
    if reads_awq(device):
        found.append(WeightQuantization(format="awq", bits=4, activation_bits=16))
    return found


def _parallel_flags(method: Method, hardware: Hardware, options: dict[str, object]) -> list[str]:
    layout = method.get(Parallelism)
    if layout is None:
        return []
    if layout.sequence is not None or (layout.data or 1) > 1:
        wanted = f"sequence parallelism {layout.sequence}" if layout.sequence else "data-parallel replicas"
        raise not_offered("tensorrt-llm", wanted, ["tensor", "pipeline", "expert", "attention_data"])
    tensor, pipeline, _ = degrees(layout, hardware.count)
    argv = ["--tp_size", str(tensor)]
    argv += ["--pp_size", str(pipeline)] if pipeline > 1 else []
    if layout.expert is not None and layout.expert > 1:
        if tensor % layout.expert:
            raise BadInput(f"expert degree {layout.expert} must divide the tensor degree {tensor}")
        argv += ["--ep_size", str(layout.expert)]
    if layout.attention_data:
        options["enable_attention_dp"] = True
    return argv


def _batch_flags(method: Method, options: dict[str, object], notes: list[str]) -> list[str]:
    argv: list[str] = []
    batching, chunked = method.get(Batching), method.get(ChunkedPrefill)
    if batching is not None:
        if batching.mode != "continuous":
            raise not_offered("tensorrt-llm", f"{batching.mode} batching", ["continuous batching"])
        notes.append("in-flight (continuous) batching is always on")
        argv += [] if batching.max_sequences is None else ["--max_batch_size", str(batching.max_sequences)]
    tokens = {t for t in (batching and batching.max_tokens, chunked and chunked.tokens) if t}
    if len(tokens) > 1:
        raise NotSupported(
            f"tensorrt-llm has one token limit per step, found {sorted(tokens)}: give one of them"
        )
    if chunked is not None:
        options["enable_chunked_prefill"] = chunked.enabled
    if tokens:
        argv += ["--max_num_tokens", str(tokens.pop())]
    return argv


def _checkpoint(model: Model, method: Method, notes: list[str]) -> str:
    """The model to serve: the original, or the folder that its quantization is to be written to."""
    original = checkpoint(model)
    quantized = method.get(WeightQuantization)
    if quantized is None:
        return original
    name = canonical(quantized.format)
    if name == checkpoint_format(model):
        notes.append(f"the checkpoint is stored in {quantized.format} already")
        return original
    if name not in FORMATS:
        raise not_offered("tensorrt-llm", f"weight format {quantized.format}", FORMATS)
    folder = f"./{original.rstrip('/').rsplit('/', 1)[-1]}-{name}"
    notes.append(f"first quantize {model.name} to {quantized.format} into {folder} with Model Optimizer")
    return folder


def _cache_options(method: Method, options: dict[str, object]) -> None:
    cache: dict[str, object] = {}
    if (prefix := method.get(PrefixCache)) is not None:
        if prefix.tier == "remote":
            raise not_offered("tensorrt-llm", "a remote prefix cache", ["device tier", "host tier"])
        cache["enable_block_reuse"] = prefix.enabled
        if prefix.tier == "host":
            cache["host_cache_size"] = 16 * 2**30
    if (quantized := method.get(KvQuantization)) is not None:
        if quantized.format.lower() not in KV_FORMATS:
            raise not_offered("tensorrt-llm", f"cache format {quantized.format}", KV_FORMATS)
        cache["dtype"] = quantized.format.lower()
    if cache:
        options["kv_cache_config"] = cache


def _speculative(speculative: Speculative) -> dict[str, object]:
    kind = SPECULATIVE.get(speculative.algorithm.lower())
    if kind is None:
        raise not_offered("tensorrt-llm", f"speculative algorithm {speculative.algorithm}", SPECULATIVE)
    config: dict[str, object] = {"decoding_type": kind}
    if speculative.draft_model is not None:
        config["speculative_model"] = speculative.draft_model
    elif kind in ("Eagle3", "Draft_Target"):
        raise NotSupported(
            f"tensorrt-llm needs a draft model for {speculative.algorithm}: "
            "name one in draft_model, or use ngram"
        )
    tokens = speculative.tokens or (4 if kind == "NGram" else 1)
    config["num_nextn_predict_layers" if kind == "MTP" else "max_draft_len"] = tokens
    if kind == "NGram":
        config["max_matching_ngram_size"] = 4
    return config
