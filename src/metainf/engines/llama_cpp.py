"""llama.cpp: `llama-server` with a GGUF file (flags as of tools/server/README.md and docs/multi-gpu.md)."""

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
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
from metainf.engines.candidates import ANY_WORKLOAD, Choices, device_count, proposals, replaced
from metainf.engines.compatibility import check
from metainf.engines.device_support import maker
from metainf.engines.formats import GGUF_FORMATS, format_bits, is_gguf
from metainf.engines.launch import Launch, degrees, not_offered, require_offered
from metainf.engines.serving import finding_notes, known_context_tokens

KV_FORMATS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
FLASH = {
    "flash": "on",
    "flash_attention": "on",
    "on": "on",
    "auto": "auto",
    "off": "off",
    "eager": "off",
    "none": "off",
}
SPECULATIVE = {
    "ngram": "ngram-simple",
    "ngram-simple": "ngram-simple",
    "ngram-mod": "ngram-mod",
    "eagle3": "draft-eagle3",
    "mtp": "draft-mtp",
    "draft": "draft",
    "draft_model": "draft",
}


class LlamaCpp:
    """The llama.cpp server: processors, Apple, NVIDIA, AMD and Intel graphics."""

    name = "llama.cpp"
    title = "llama.cpp"
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
        Flags,
    )

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ANY_WORKLOAD) -> list[Method]:
        """Candidate methods with GGUF weights; none for image models and tensor processors."""
        if model.modality not in ("text", "multimodal") or hardware.device.kind in ("tpu", "npu"):
            return []
        choices = Choices(
            engine=self.name,
            formats=_formats,
            kv_formats=lambda _: ("q8_0",),
            speculative=("ngram", "mtp"),
            chunk_tokens=(512, 2048),
            layouts=_layouts,
        )
        free = model.model_copy(update={"quantization": None})
        found = proposals(choices, free, hardware, workload)
        flash = [replaced(m, AttentionBackend(name="flash")) for m in found if m.get(WeightQuantization)]
        return [m for m in flash if all(f.effect == "harmful" for f in check(m, model, workload, hardware))]

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """`llama-server -m FILE ...`. NotSupported for settings llama.cpp lacks."""
        require_offered(self.name, method, self.offers)
        notes: list[str] = []
        argv = ["llama-server", "-m", gguf_file(model, method, notes)]
        argv += ["-ngl", "0" if maker(hardware.device) == "cpu" else "all"]
        argv += _split_flags(method, hardware)
        argv += _batch_flags(method, workload)
        argv += _cache_flags(method)
        argv += _speculative_flags(method, notes)
        if (backend := method.get(AttentionBackend)) is not None:
            if backend.name.lower() not in FLASH:
                raise not_offered("llama.cpp", f"attention backend {backend.name}", FLASH)
            argv += ["-fa", FLASH[backend.name.lower()]]
        if (flags := method.get(Flags)) is not None:
            argv += list(flags.values)
        notes += finding_notes(method, model, workload, hardware)
        return Launch(argv=tuple(argv), notes=tuple(notes))


def gguf_file(model: Model, method: Method, notes: list[str]) -> str:
    """The model file: the one the model came from, else the name a conversion would give it."""
    for path in (model.source, model.name):
        if path is not None and path.lower().endswith(".gguf"):
            notes += _stored_notes(method, path)
            return path
    quantized, precision = method.get(WeightQuantization), method.get(Precision)
    if quantized is not None:
        if not is_gguf(quantized.format):
            raise not_offered("llama.cpp", f"weight format {quantized.format}", GGUF_FORMATS)
        kind = quantized.format.upper()
    else:
        kind = (precision.dtype if precision else "f16").upper().replace("FP16", "F16").replace("FP32", "F32")
    name = f"{model.name.rsplit('/', 1)[-1]}-{kind}.gguf"
    notes.append(
        f"needs {model.name} as GGUF: convert_hf_to_gguf.py, then llama-quantize to {kind}, saved as {name}"
    )
    return name


def _stored_notes(method: Method, path: str) -> list[str]:
    items = (method.get(WeightQuantization), method.get(Precision))
    return [
        f"{path} must hold {item.kind} {getattr(item, 'format', None) or getattr(item, 'dtype', '')}"
        for item in items
        if item
    ]


def _formats(model: Model, device: Device) -> list[WeightQuantization]:
    names = ("Q8_0", "Q4_K_M", "Q4_0") if maker(device) in ("cpu", "apple") else ("Q8_0", "Q6_K", "Q4_K_M")
    return [WeightQuantization(format=name, bits=format_bits(name), activation_bits=16) for name in names]


def _layouts(model: Model, hardware: Hardware) -> list[Parallelism]:
    count = device_count(hardware)
    if count == 1:
        return [Parallelism(tensor=1)]
    whole = [Parallelism(tensor=1, pipeline=count)]
    if maker(hardware.device) in ("nvidia", "amd") and (model.num_kv_heads or count) % count == 0:
        whole.append(Parallelism(tensor=count))
    return whole


def _split_flags(method: Method, hardware: Hardware) -> list[str]:
    layout = method.get(Parallelism)
    if layout is None:
        return []
    if layout.sequence or layout.attention_data or (layout.expert or 1) > 1 or (layout.data or 1) > 1:
        raise not_offered("llama.cpp", "expert, data or sequence parallelism", ["tensor", "pipeline"])
    tensor, pipeline, _ = degrees(layout, hardware.count)
    if tensor > 1 and pipeline > 1:
        raise NotSupported("llama.cpp splits by layer or by tensor, not both: set tensor or pipeline to 1")
    return ["-sm", "tensor" if tensor > 1 else "layer" if pipeline > 1 else "none"]


def _batch_flags(method: Method, workload: Workload) -> list[str]:
    argv: list[str] = []
    slots = 1
    if (batching := method.get(Batching)) is not None:
        if batching.mode not in ("continuous", "none"):
            raise not_offered("llama.cpp", f"{batching.mode} batching", ["continuous batching", "none"])
        continuous = batching.mode == "continuous"
        slots = (batching.max_sequences or 1) if continuous else 1
        argv += ["-cb" if continuous else "--no-cont-batching"]
        argv += ["-np", str(slots)] if batching.max_sequences is not None or not continuous else []
        argv += ["-b", str(batching.max_tokens)] if batching.max_tokens is not None else []
    if (chunked := method.get(ChunkedPrefill)) is not None:
        if not chunked.enabled:
            raise not_offered("llama.cpp", "prefill in one piece", ["prefill in chunks of a given size"])
        argv += ["-ub", str(chunked.tokens)] if chunked.tokens is not None else []
        if chunked.tokens is None:
            argv += ["-ub", "512"]
    if (context := known_context_tokens(workload)) is not None:
        argv += ["-c", str(context * slots)]
    return argv


def _cache_flags(method: Method) -> list[str]:
    argv: list[str] = []
    if (prefix := method.get(PrefixCache)) is not None:
        if prefix.tier == "remote":
            raise not_offered("llama.cpp", "a remote prefix cache", ["device tier", "host tier"])
        argv += ["--cache-prompt"] if prefix.enabled else ["--no-cache-prompt"]
        argv += ["-cram", "8192"] if prefix.enabled and prefix.tier == "host" else []
    if (cache := method.get(KvQuantization)) is not None:
        name = cache.format.lower()
        if name not in KV_FORMATS:
            raise not_offered("llama.cpp", f"cache format {cache.format}", KV_FORMATS)
        argv += ["-ctk", name, "-ctv", name]
    return argv


def _speculative_flags(method: Method, notes: list[str]) -> list[str]:
    speculative = method.get(Speculative)
    if speculative is None:
        return []
    kind = SPECULATIVE.get(speculative.algorithm.lower())
    if kind is None:
        raise not_offered("llama.cpp", f"speculative algorithm {speculative.algorithm}", SPECULATIVE)
    if kind in ("draft", "draft-eagle3") and speculative.draft_model is None:
        raise NotSupported(
            f"llama.cpp needs a draft file for {speculative.algorithm}: name one in draft_model, or use ngram"
        )
    argv = [] if kind == "draft" else ["--spec-type", kind]
    argv += ["-md", speculative.draft_model] if speculative.draft_model is not None else []
    if kind.startswith("ngram"):
        notes.append("the n-gram drafter keeps its own draft length")
    elif speculative.tokens is not None:
        argv += ["--spec-draft-n-max", str(speculative.tokens)]
    return argv
