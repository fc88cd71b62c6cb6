"""Diffusers: a short program that loads a pipeline with the chosen recipe and draws what it reads.

Recipe steps as in the library's guides (optimization/fp16, optimization/memory) and torchao's `quantize_`.
The program reads one prompt per line from standard input and writes numbered PNG files. To be measured, the
same steps are made by a host of our own (`metainf.hosts.diffusers`), which tells what it sees of them.
"""

from metainf.domain import (
    AttentionBackend,
    Autoencoder,
    Batching,
    Compile,
    Device,
    DistilledModel,
    FusedQkv,
    Hardware,
    MemoryFormat,
    MemoryMode,
    Method,
    Model,
    NotSupported,
    Parallelism,
    Precision,
    Schedule,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines.candidates import ANY_WORKLOAD, device_count
from metainf.engines.device_support import at_least, computes_bf16, computes_fp8, maker
from metainf.engines.diffusers_limits import require_parts, require_pixels
from metainf.engines.diffusers_script import OFFLOADS, batch_of, program, target
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.hosted import Page
from metainf.engines.launch import Launch, checkpoint, finding_notes, not_offered, require_offered
from metainf.engines.memory import requirement

PROGRAM_FILE = "draw.py"
HOST = ("python", "-m", "metainf.hosts.diffusers")


class Diffusers:
    """Hugging Face Diffusers on PyTorch: image and video pipelines."""

    name = "diffusers"
    title = "Diffusers"
    offers: tuple[type, ...] = (
        Precision,
        AttentionBackend,
        Compile,
        FusedQkv,
        WeightQuantization,
        MemoryMode,
        Batching,
        Parallelism,
        DistilledModel,
        Schedule,
        Autoencoder,
        MemoryFormat,
    )
    health = "/health"
    metrics: str | None = "/metrics"
    forgets: str | None = None

    def methods(self, model: Model, hardware: Hardware, workload: Workload = ANY_WORKLOAD) -> list[Method]:
        """Recipes from plain fp32 to everything on; none for text models."""
        if model.modality not in ("image", "video") or hardware.device.kind in ("tpu", "npu"):
            return []
        count = device_count(hardware)
        copies = (Parallelism(data=count),) if count > 1 else ()
        recipes = [self._method(*steps, *copies) for steps in _recipes(hardware.device)]
        fits = [
            m for m in recipes if (need := requirement(model, m, hardware, workload)) is None or need.fits
        ]
        return fits or [self._method(*steps, *copies) for steps in _offloaded(hardware.device)]

    def _method(self, *techniques: Technique) -> Method:
        return Method(engine=self.name, techniques=techniques)

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """`python draw.py` and the program. NotSupported for steps that Diffusers lacks."""
        require_offered(self.name, method, self.offers)
        notes: list[str] = []
        layout = method.get(Parallelism)
        if layout is not None:
            if any((d or 1) > 1 for d in (layout.tensor, layout.pipeline, layout.expert)) or layout.sequence:
                raise not_offered(
                    "diffusers", "a pipeline split over devices", ["one device", "data replicas"]
                )
            notes.append(f"one process per device, {layout.data or 1} in all")
        text = "\n".join(program(model, method, hardware.device, workload)) + "\n"
        notes.append("reads one prompt per line and writes image-00000.png, image-00001.png, ...")
        notes += finding_notes(method, model, workload, hardware)
        return Launch(argv=("python", PROGRAM_FILE), files={PROGRAM_FILE: text}, notes=tuple(notes))

    def serve(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch:
        """The host's command line, which leaves pixels, batch and steps to each request.

        NotSupported for steps that diffusers or this model lacks, BadInput for pixels that the model cannot
        draw.
        """
        require_offered(self.name, method, self.offers)
        require_pixels(model, workload)
        require_parts(model, method)
        batch_of(method, workload)
        if method.get(Parallelism) is not None:
            raise NotSupported("one device is measured at a time: leave parallelism out")
        words = [
            *HOST,
            checkpoint(model),
            "--device",
            target(hardware.device),
            *_words(method, hardware.device),
        ]
        return Launch(argv=tuple(words), notes=tuple(finding_notes(method, model, workload, hardware)))

    def address(self, host: str, port: int) -> tuple[str, ...]:
        """The words that make the host listen there."""
        return "--host", host, "--port", str(port)

    def evidence(self, reading: Reading) -> Evidence:
        """What the host saw of its parts and kernels."""
        page = Page(reading, "diffusers")
        batches, steps = page.gained("batches"), page.gained("steps")
        layers, integers = page.number("quantized_layers"), page.switch("integer_kernels")
        share, fused = page.fact("denoiser_share"), page.fact("fused_qkv")
        student = page.fact("student_share")
        return Evidence(
            version=page.fact("version"),
            attention=page.fact("attention"),
            precision=page.fact("dtype"),
            quantized_layers=layers,
            integer_kernels=integers,
            compiled=page.switch("compiled"),
            fused_qkv=None if fused is None else float(fused),
            memory_format=page.fact("memory_format"),
            denoiser_share=None if share is None else float(share),
            student_share=None if student is None else float(student),
            denoiser_changed=page.switch("denoiser_changed"),
            drawn_steps=steps / batches if batches and steps is not None else None,
            scheduler=page.fact("schedule"),
            autoencoder=page.fact("autoencoder"),
        )


def _recipes(device: Device) -> list[tuple[Technique, ...]]:
    half = Precision(dtype="bf16" if computes_bf16(device) else "fp16")
    sdpa, compiled, fused = AttentionBackend(name="sdpa"), Compile(), FusedQkv()
    found: list[tuple[Technique, ...]] = [(Precision(dtype="fp32"),), (half,), (half, sdpa)]
    if maker(device) not in ("nvidia", "amd", "cpu"):
        return found
    found += [(half, sdpa, compiled), (half, sdpa, compiled, fused)]
    if at_least(device, 8):
        int8 = WeightQuantization(format="int8dq", bits=8, activation_bits=8)
        found += [(half, sdpa, compiled, int8), (half, sdpa, compiled, fused, int8)]
        found.append((half, sdpa, WeightQuantization(format="int8wo", bits=8, activation_bits=16)))
    if computes_fp8(device):
        fp8 = WeightQuantization(format="fp8dq", bits=8, activation_bits=8)
        found += [(half, sdpa, compiled, fp8), (half, sdpa, compiled, fused, fp8)]
    return found


def _offloaded(device: Device) -> list[tuple[Technique, ...]]:
    half = Precision(dtype="bf16" if computes_bf16(device) else "fp16")
    return [(half, AttentionBackend(name="sdpa"), MemoryMode(name=name)) for name in OFFLOADS]


def _words(method: Method, device: Device) -> list[str]:
    """The host's words for a method, `metainf.hosts.diffusers_words`."""
    words: list[str] = []
    if (precision := method.get(Precision)) is not None:
        if precision.dtype == "tf32" and maker(device) != "nvidia":
            raise NotSupported("tf32 is a format of NVIDIA GPUs from Ampere on: take bf16 or fp32 here")
        words += ["--dtype", precision.dtype]
    if (attention := method.get(AttentionBackend)) is not None:
        words += ["--attention", attention.name]
    if (fused := method.get(FusedQkv)) is not None and fused.enabled:
        words.append("--fuse-qkv")
    if (quantized := method.get(WeightQuantization)) is not None:
        if quantized.format == "qint8" and (
            maker(device) != "cpu" or (precision and precision.dtype != "fp32")
        ):
            raise NotSupported("qint8 computes on processors, from fp32: leave bf16 out, or take int8dq")
        if quantized.format == "fp8dq" and not computes_fp8(device):
            raise NotSupported(f"{device.name} does not compute in fp8: take int8dq, or leave fp8 out")
        words += ["--quantize", quantized.format]
    if (compiled := method.get(Compile)) is not None and compiled.enabled:
        words.append("--compile")
    if (order := method.get(MemoryFormat)) is not None:
        words += ["--memory-format", order.name]
    if (student := method.get(DistilledModel)) is not None:
        words += ["--denoiser", student.model]
    if (decoder := method.get(Autoencoder)) is not None:
        words += ["--autoencoder", decoder.name]
    if (schedule := method.get(Schedule)) is not None:
        words += [] if schedule.name is None else ["--schedule", schedule.name]
        words += [] if schedule.steps is None else ["--steps", str(schedule.steps)]
        words += ["--no-guidance"] if schedule.guided is False else []
    if (offload := method.get(MemoryMode)) is not None:
        if maker(device) == "cpu":
            raise NotSupported("parts wait in the processor's memory for a GPU: leave cpu-offload out here")
        words += ["--offload", offload.name]
    return words
