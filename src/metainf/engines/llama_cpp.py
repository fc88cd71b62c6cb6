"""llama.cpp: `llama-server` with a GGUF file (flags as of tools/server/README.md and docs/multi-gpu.md)."""

from typing import ClassVar

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    Compile,
    Device,
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
from metainf.engines.candidates import ANY_WORKLOAD, Choices, device_count, replaced
from metainf.engines.command import Command, Words, same
from metainf.engines.compatibility import check
from metainf.engines.device_support import maker
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.formats import GGUF_FORMATS, format_bits, is_gguf
from metainf.engines.launch import degrees, known_context_tokens, not_offered
from metainf.engines.llama_cpp_log import llama_cpp_evidence
from metainf.engines.serving import SERVED, ServingEngine

LOOKUP_TOKENS = 4  # as other engines look up; of llama.cpp's own 12 nearly nothing is found again
AUTO_SLOTS = 4  # of llama-server without -np (tools/server/README.md)
FLASH = same(("on", "auto", "off")) | {"flash": "on", "flash_attention": "on", "eager": "off", "none": "off"}


class LlamaCpp(ServingEngine):
    """The llama.cpp server: processors, Apple, NVIDIA, AMD and Intel graphics."""

    name = "llama.cpp"
    title = "llama.cpp"
    offers: tuple[type, ...] = tuple(kind for kind in SERVED if kind is not Compile)
    words: ClassVar[Words] = Words(
        program=("llama-server", "-m"),
        tensor="-sm",
        pipeline="-sm",
        layouts=("tensor", "pipeline"),
        sequences="-np",
        context="-c",
        weights={},
        caches=same(("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")),
        cache_tiers=("device", "host"),
        speculative={"ngram": "ngram-simple", "eagle3": "draft-eagle3", "mtp": "draft-mtp"}
        | same(("ngram-simple", "ngram-mod"))
        | dict.fromkeys(("draft", "draft_model"), "draft-simple"),
        drafted=("draft-simple", "draft-eagle3"),
    )
    context_step = 1024

    def serves(self, device: Device) -> bool:
        """Everything but tensor processors."""
        return device.kind not in ("tpu", "npu")

    def choices(self, device: Device) -> Choices:
        """GGUF weights, an 8-bit cache on every device, and splits by layer or by tensor."""
        return Choices(
            engine=self.name,
            formats=_formats,
            kv_formats=lambda _: ("q8_0",),
            speculative=("ngram", "mtp"),
            chunk_tokens=(512, 2048),
            layouts=_layouts,
        )

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ANY_WORKLOAD) -> list[Method]:
        """Candidate methods with GGUF weights and flash attention, whatever the checkpoint is stored in."""
        found = super().methods(model.model_copy(update={"quantization": None}), hardware, workload)
        flash = [replaced(m, AttentionBackend(name="flash")) for m in found if m.get(WeightQuantization)]
        return [m for m in flash if all(f.effect == "harmful" for f in check(m, model, workload, hardware))]

    def start(self, command: Command) -> None:
        on_cpu = maker(command.hardware.device) == "cpu"
        file = gguf_file(command.model, command.method, command.notes)
        command.add(file, "-ngl", "0" if on_cpu else "all")

    def spread(self, command: Command, layout: Parallelism) -> None:
        if layout.sequence or layout.attention_data or (layout.expert or 1) > 1 or (layout.data or 1) > 1:
            raise not_offered(self.name, "expert, data or sequence parallelism", self.words.layouts)
        tensor, pipeline, _ = degrees(layout, command.hardware.count)
        if tensor > 1 and pipeline > 1:
            raise NotSupported(
                "llama.cpp splits by layer or by tensor, not both: set tensor or pipeline to 1"
            )
        command.add(self.words.tensor, "tensor" if tensor > 1 else "layer" if pipeline > 1 else "none")

    def weigh(self, command: Command) -> None:
        """The file holds the number format."""

    def batch(self, command: Command) -> None:
        if (batching := command.get(Batching)) is not None:
            if batching.mode == "dynamic":
                raise not_offered(self.name, "dynamic batching", ["continuous", "static", "none"])
            command.add("-cb" if batching.mode == "continuous" else "--no-cont-batching")
            command.add(self.words.sequences, 1 if batching.mode == "none" else batching.max_sequences)
        if (chunked := command.get(ChunkedPrefill)) is not None and not chunked.enabled:
            raise not_offered(self.name, "prefill in one piece", ["prefill in chunks of a given size"])
        tokens = self.step_tokens(command)
        if chunked is not None:
            tokens = tokens or 512
            command.add("-ub", tokens)
        command.add("-b", tokens)

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        command.add("--cache-prompt" if prefix.enabled else "--no-cache-prompt")
        if prefix.tier == "host":
            command.add("-cram", "8192" if prefix.enabled else "0")
        elif prefix.tier == "device" or not prefix.enabled:
            command.add("-cram", "0")

    def quantize_cache(self, command: Command, word: str) -> None:
        command.add("-ctk", word, "-ctv", word)

    def speculate(self, command: Command, speculative: Speculative) -> None:
        kind = self.algorithm(speculative)
        command.add("--spec-type", kind)
        command.add("-md", speculative.draft_model)
        length = "--spec-draft-n-max"
        if kind == "ngram-simple":
            command.add("--spec-ngram-simple-size-n", LOOKUP_TOKENS)
            length = "--spec-ngram-simple-size-m"
        elif kind == "ngram-mod":
            length = "--spec-ngram-mod-n-max"
        command.add(length, speculative.tokens)

    def compute(self, command: Command) -> None:
        if (backend := command.get(AttentionBackend)) is not None:
            command.add("-fa", self.word("attention backend", backend.name, FLASH))

    def limit(self, command: Command) -> None:
        """The slots share one context, so it is as long as all of them together, those included that the
        server opens where their number is not stated."""
        context, batching = known_context_tokens(command.workload), command.get(Batching)
        slots = None if batching is None else 1 if batching.mode == "none" else batching.max_sequences
        command.add(self.words.context, context and context * (slots or AUTO_SLOTS))

    def address(self, host: str, port: int) -> tuple[str, ...]:
        """Also its metrics, and a log that names the settings in force (level 4)."""
        return *super().address(host, port), "--metrics", "--slots", "-lv", "4"

    def evidence(self, reading: Reading) -> Evidence:
        return llama_cpp_evidence(reading, self.words.speculative)


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
