"""Diffusers: a short program that loads a pipeline with the chosen recipe and draws what it reads.

Recipe steps as in the library's guides (optimization/fp16, optimization/memory) and torchao's
`quantize_`. The program reads one prompt per line from standard input and writes numbered PNG files.
"""

from metainf.domain import (
    AttentionBackend,
    Batching,
    Compile,
    Device,
    FusedQkv,
    Hardware,
    MemoryMode,
    Method,
    Model,
    Parallelism,
    Precision,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines.candidates import ANY_WORKLOAD, device_count
from metainf.engines.device_support import at_least, computes_bf16, computes_fp8, maker
from metainf.engines.launch import Launch, checkpoint, dtype_name, finding_notes, not_offered, require_offered
from metainf.engines.memory import requirement

PROGRAM_FILE = "draw.py"
QUANTIZERS = {
    "int8dq": "Int8DynamicActivationInt8WeightConfig",
    "int8wo": "Int8WeightOnlyConfig",
    "int4wo": "Int4WeightOnlyConfig",
    "fp8dq": "Float8DynamicActivationFloat8WeightConfig",
}
BACKENDS = {"sdpa": "native", "flash": "flash", "flash3": "_flash_3", "sage": "sage", "xformers": "xformers"}
OFFLOADS = {
    "model-cpu-offload": "enable_model_cpu_offload()",
    "sequential-cpu-offload": "enable_sequential_cpu_offload()",
}


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
    )

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
        text = "\n".join(_program(model, method, hardware.device, workload)) + "\n"
        notes.append("reads one prompt per line and writes image-00000.png, image-00001.png, ...")
        notes += finding_notes(method, model, workload, hardware)
        return Launch(argv=("python", PROGRAM_FILE), files={PROGRAM_FILE: text}, notes=tuple(notes))


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


def _program(model: Model, method: Method, device: Device, workload: Workload) -> list[str]:
    where = {"cpu": "cpu", "apple": "mps", "intel": "xpu"}.get(maker(device), "cuda")
    precision = method.get(Precision)
    dtype = "" if precision is None else f", torch_dtype=torch.{dtype_name(precision.dtype)}"
    lines = ["import sys", "", "import torch", "from diffusers import DiffusionPipeline", ""]
    lines.append(f"pipe = DiffusionPipeline.from_pretrained({checkpoint(model)!r}{dtype})")
    offload = method.get(MemoryMode)
    if offload is None:
        lines.append(f"pipe.to({where!r})")
    elif offload.name not in OFFLOADS:
        raise not_offered("diffusers", f"memory mode {offload.name}", OFFLOADS)
    lines.append('part = "transformer" if getattr(pipe, "transformer", None) is not None else "unet"')
    lines += _denoiser_steps(method)
    if offload is not None:
        lines.append(f"pipe.{OFFLOADS[offload.name]}")
    batch = _batch(method, workload)
    settings = {
        "height": workload.height_px,
        "width": workload.width_px,
        "num_inference_steps": workload.steps,
    }
    settings["num_inference_steps"] = workload.steps or model.default_steps
    keywords = "".join(f", {key}={value}" for key, value in settings.items() if value is not None)
    lines += [
        "prompts = [line.strip() for line in sys.stdin if line.strip()]",
        f"for start in range(0, len(prompts), {batch}):",
        f"    images = pipe(prompts[start : start + {batch}]{keywords}).images",
        "    for offset, image in enumerate(images):",
        '        image.save(f"image-{start + offset:05d}.png")',
    ]
    return lines


def _denoiser_steps(method: Method) -> list[str]:
    lines: list[str] = []
    if (fused := method.get(FusedQkv)) is not None:
        lines.append("pipe.fuse_qkv_projections()" if fused.enabled else "# query, key and value stay apart")
    if (backend := method.get(AttentionBackend)) is not None:
        if backend.name.lower() not in BACKENDS:
            raise not_offered("diffusers", f"attention backend {backend.name}", BACKENDS)
        lines.append(f"getattr(pipe, part).set_attention_backend({BACKENDS[backend.name.lower()]!r})")
    if (quantized := method.get(WeightQuantization)) is not None:
        config = QUANTIZERS.get(quantized.format.lower())
        if config is None:
            raise not_offered("diffusers", f"weight format {quantized.format}", QUANTIZERS)
        lines += [f"from torchao.quantization import {config}, quantize_", ""]
        lines.append(f"quantize_(getattr(pipe, part), {config}())")
    if (compiled := method.get(Compile)) is not None:
        step = 'getattr(pipe, part).compile(mode="max-autotune", fullgraph=True)'
        lines.append(step if compiled.enabled else "# not compiled")
    return lines


def _batch(method: Method, workload: Workload) -> int:
    batching = method.get(Batching)
    if batching is None:
        return workload.batch_size or 1
    if batching.mode not in ("none", "static"):
        raise not_offered("diffusers", f"{batching.mode} batching", ["static batching", "none"])
    return 1 if batching.mode == "none" else batching.max_sequences or workload.batch_size or 1
